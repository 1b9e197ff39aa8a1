"""Bringing what a box keeps of a run to the real store, for as long as there is something new."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.errors import StoreError, TargetError
from launcher.progress import SILENT, Progress
from launcher.ssh import door as doors
from launcher.ssh.listening import mends
from launcher.ssh.relaying import Relay
from launcher.ssh.taking import Outcome

if TYPE_CHECKING:
    from launcher.profiles.model import Profile
    from launcher.remote.model import Shell
    from launcher.store.objects import Store

TRIES = 8  # of a round that is cut; each goes on where the one before was
BUSY_TRIES = 30
PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What was brought. `complete`: the run is over, and nothing of it is left on the box alone. `direct`: the box
    writes to the store itself. `foreign`: the first attempt of the box's that the store's run doesn't have."""

    objects: int = 0
    bytes: int = 0
    complete: bool = False
    direct: bool = False
    foreign: int | None = None


def pull(
    profile: Profile, run: str, opened: Store, progress: Progress = SILENT, *, shell: Shell | None = None
) -> Pulled:
    """Bring what a box has of a run to a store, all there is by now; a run that is not over has more later.

    Raises TargetError when the box doesn't answer or doesn't know the run, StoreError when another machine relays it or
    the store doesn't take it.
    """
    with doors.opened(profile, shell=shell, progress=progress) as door:
        relay, sums, cuts, busy = Relay(opened, run, Cache()), Pulled(), 0, 0
        while True:
            try:
                outcome = relay.round(door, progress, whole=True)
            except TargetError as e:
                cuts += 1
                if cuts == TRIES or not mends(e):
                    raise
                time.sleep(PAUSE_S)
                continue
            busy += outcome.busy
            if busy > BUSY_TRIES:
                raise StoreError(f"another machine relays {run} at the moment", hint="the same again later")
            sums = added(sums, outcome)
            if outcome.trouble:
                raise StoreError(f"not all of {run} could be brought: {outcome.trouble}", hint="the same again")
            if not outcome.busy and (outcome.complete or not outcome.objects):
                return sums


def added(sums: Pulled, outcome: Outcome) -> Pulled:
    return Pulled(
        objects=sums.objects + outcome.objects,
        bytes=sums.bytes + outcome.bytes,
        complete=outcome.complete,
        direct=outcome.direct,
        foreign=outcome.foreign,
    )
