"""Cancelling runs on a box: what waits is not begun, what runs is asked to save and to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.box.model import State
from launcher.progress import SILENT, Progress
from launcher.ssh import door as doors

if TYPE_CHECKING:
    from launcher.profiles.model import Profile
    from launcher.remote.model import Shell


def cancel(
    profile: Profile, runs: Sequence[str], *, shell: Shell | None = None, progress: Progress = SILENT
) -> tuple[State, ...]:
    """Have runs on a box end; return how they stand right after, those that it doesn't know left out.

    A run that is over stays as it is. Raises TargetError when the box doesn't answer: they go on then.
    """
    with doors.opened(profile, shell=shell, progress=progress) as door:
        return tuple(doors.heard(one, door.shell.where) for one in door.ask("cancel", {"runs": list(runs)}))
