"""How runs stand on a box, as the box tells: a second opinion beside the store, and no answer is no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.box.model import State
from launcher.progress import SILENT, Progress
from launcher.ssh import door as doors
from launcher.ssh.credentials import renew

if TYPE_CHECKING:
    from launcher.profiles.model import Profile
    from launcher.remote.model import Shell
    from launcher.ssh.door import Door
    from launcher.store.objects import Store


def states(
    profile: Profile,
    runs: Sequence[str] | None,
    *,
    shell: Shell | None = None,
    progress: Progress = SILENT,
    opened: Store | None = None,
) -> tuple[State, ...]:
    """Ask a box how runs stand, all that it has where `runs` is None. It wakes those that nothing looks after.

    With the store of the runs `opened`, those that want credentials for it get some. A run that the box doesn't know is
    left out. Raises TargetError when it doesn't answer: then nobody knows.
    """
    with doors.opened(profile, shell=shell, progress=progress) as door:
        found = asked(door, runs)
        if opened is not None:
            renew(door, found, opened, progress.note)
        return found


def asked(door: Door, runs: Sequence[str] | None) -> tuple[State, ...]:
    """Ask through a door that is open: one round trip."""
    told = door.ask("states", {"runs": list(runs) if runs is not None else None})
    return tuple(doors.heard(one, door.shell.where) for one in told)
