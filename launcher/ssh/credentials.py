"""What a box gets to reach the store of a run, and how it gets more of it: whoever is in contact brings it along.

Credentials go through the connection as the input of our own program there, never as its arguments or environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.access.narrowing import Narrowed, for_run
from launcher.errors import LauncherError
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.ssh.door import Door, sent
from launcher.store.access import Access
from launcher.store.backends import scheme_of

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Given:
    """How a box reaches a run's store: `store` goes into the order, `secrets` to the agent with `start`, `note` to the
    person."""

    store: Access
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    keep: str = "memory"
    note: str | None = None

    def argument(self, run: str) -> dict[str, Any]:
        """Return what the agent's `credentials` is asked with."""
        return {"runs": {run: dict(self.secrets)} if self.secrets else {}, "keep": self.keep}


def given(access: Access, run: str, profile: Profile, *, ship: str) -> Given:
    """Return what a box gets for a run. Relayed runs get nothing: their store is a folder of the box.

    `profile.shared` is an absolute path there. Raises AccessError.
    """
    places = Places(profile.shared)
    if ship == "relay":
        return Given(store=Access(places.store()))
    found = for_run(access, run) if scheme_of(access.url) else None
    if found is None:
        return Given(store=Access(access.url, access.settings))
    store = Access(access.url, access.settings, places.secrets(run))
    return Given(store=store, secrets=found.secrets, keep=kept(found, profile), note=found.note)


def kept(found: Narrowed, profile: Profile) -> str:
    """Say where credentials lie on the box: such as open more than a run, or never end, don't go to its disk."""
    return profile.credentials if found.narrow and found.expires_at else "memory"


def renew(
    door: Door, states: Iterable[State], opened: Store, tell: Callable[[str], object] | None = None
) -> tuple[str, ...]:
    """Bring new credentials to the runs on a box that want some; return those that got them.

    The box says which runs want some, and is not believed: a run gets those of the store only where that itself tells
    that the run was sent there to write to it. What fails is told, and is no error: the next contact tries again.
    """
    done = []
    for state in states:
        if not state.credentials or state.over:
            continue
        try:
            if not is_there(opened, state.run, door.profile):
                continue
            what = given(opened.access, state.run, door.profile, ship="direct")
            if what.secrets and door.ask("credentials", what.argument(state.run)):
                done.append(state.run)
        except LauncherError as e:
            if tell:
                tell(f"{state.run} got no new credentials for its store: {e.problems[0].message}")
    return tuple(done)


def is_there(opened: Store, run: str, profile: Profile) -> bool:
    """Tell whether the store knows that a run was sent to this box last, and that the box itself writes to it."""
    found = sent(opened, run)
    return bool(found) and (found[-1].kind, found[-1].host, found[-1].ship) == ("ssh", profile.host, "direct")
