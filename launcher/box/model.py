"""The nouns of a box: what its host side is told, and what it tells. JSON files in `jobs/<run>/` of launcher's folder.

order.json   an Order, written once before the run begins there
state.json   a State, replaced by a rename whenever it changes
held         locked (flock) by the host side while it lives: the one truth about that
cancel       somebody wants the run to end; written once
out          what the command printed, as frames (launcher.box.output)
log          what the host side said
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from launcher.profiles.model import Profile, made
from launcher.profiles.model import from_json as profile_from
from launcher.store.access import Access
from launcher.store.access import from_json as access_from

VERSION = 1
Phase = Literal["waiting", "starting", "running", "ended", "held", "cancelled"]
OVER = ("ended", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Order:
    """One run on one box. Paths are the box's own.

    `ship` says who writes to the store that the person named: the box itself ("direct", then `store` is that store as
    the box reaches it), or whoever is attached ("relay", then `store` is a folder on the box). `attempt` is the first
    one that begins here; in the store it is queued already.
    """

    version: int = VERSION
    run: str
    job: Mapping[str, Any]  # launcher.job.Job in JSON's own types
    attempt: int
    tools: str
    profile: Profile
    store: Access
    ship: Literal["direct", "relay"]
    image: str  # id
    reference: str | None = None  # what the engine knows the image by, where one has it
    architecture: str = "amd64"
    code: str = ""  # path of the code archive
    data: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    code_facts: Mapping[str, Any] | None = None
    who: str | None = None

    @property
    def folder(self) -> str:
        """Launcher's folder on the box."""
        return self.profile.shared

    def to_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return told | {"profile": asdict(self.profile), "store": self.store.to_json()}


@dataclass(frozen=True, kw_only=True)
class State:
    """How a run stands on a box, as its host side last wrote it. `alive` is not written: who reads looks at `held`."""

    run: str
    phase: Phase
    when: str  # RFC 3339, UTC
    attempt: int | None = None
    place: int | None = None  # how many runs are before it in the queue for GPUs
    gpus: tuple[str, ...] = ()
    why: str = ""
    code: int | None = None  # what a shell would return for the command, once it has ended
    node: str = ""  # the box's own name
    alive: bool = False
    credentials: str = (
        ""  # not written either: "soon" and "missing" ask who is in contact to bring some (box.credentials)
    )

    @property
    def over(self) -> bool:
        return self.phase in OVER

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def order_from(told: Mapping[str, Any]) -> Order:
    """Read an order back. Raises KeyError, TypeError or ValueError when it is none."""
    if told["version"] != VERSION:
        raise ValueError(f"version {told['version']}, and this launcher knows {VERSION}")
    return made(Order, {**told, "profile": profile_from(told["profile"]), "store": access_from(told["store"])})


def state_from(told: Mapping[str, Any]) -> State:
    """Read a state back; what a newer launcher has added is passed over. Raises TypeError when it is none."""
    found = made(State, told)
    words = (found.run, found.phase, found.when, found.why, found.node, found.credentials, *found.gpus)
    numbers = (found.attempt, found.place, found.code)
    if not all(isinstance(one, str) for one in words) or not all(one is None or type(one) is int for one in numbers):
        raise TypeError("a state of other types")
    return found
