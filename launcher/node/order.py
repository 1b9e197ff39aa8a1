"""What every task of one submission is told: JSON on the shared folder, written once, before sbatch is called."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import TargetError
from launcher.profiles.model import Profile
from launcher.profiles.model import from_json as profile_from
from launcher.store.access import Access
from launcher.store.access import from_json as access_from

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Order:
    """One submission: an array (or a single job) of tasks, and what all of them share.

    `groups[i]` are the points that task i runs, by their place in the plan: one, or several that are packed together.
    The Slurm job is called `launcher-<token>`: so it can be found again when nobody saw what sbatch answered.
    """

    version: int = VERSION
    sweep: str
    token: str
    number: int  # of this submission of the sweep, from 1
    groups: tuple[tuple[int, ...], ...]
    plan: str  # path of the plan on the shared folder
    tools: str  # folder of launcher for the nodes
    profile: Profile
    store: Access  # as the nodes reach it; `secrets` is a path on the shared folder
    image: str  # id
    architecture: str = "amd64"
    code: str = ""  # path of the code archive
    data: Mapping[str, str] = field(default_factory=dict)  # name -> path on the shared folder
    code_facts: Mapping[str, Any] | None = None  # for the record
    who: str | None = None

    @property
    def job_name(self) -> str:
        return f"launcher-{self.token}"

    def to_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return told | {"profile": asdict(self.profile), "store": self.store.to_json()}


def python(order: Order) -> list[str]:
    """Return how launcher's programs are run on the nodes: by the Python of the tools, else by this one."""
    own = Path(order.tools, "bin", "python3")
    return [str(own) if own.exists() else sys.executable, *(["-I"] if sys.flags.isolated else []), "-u"]


def read(path: Path) -> Order:
    """Read an order. Raises TargetError when it is none, or was written by a newer launcher."""
    try:
        told = json.loads(path.read_bytes())
        if told["version"] != VERSION:
            raise TargetError(f"{path} has version {told['version']}, and this launcher knows {VERSION}")
        groups = tuple(tuple(group) for group in told["groups"])
        made = {"groups": groups, "profile": profile_from(told["profile"]), "store": access_from(told["store"])}
        return Order(**{**told, **made})
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise TargetError(f"{path} is no order: {e}", hint="submit again") from e
