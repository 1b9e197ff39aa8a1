"""Checkpoints: which of what lies in `checkpoints/` is finished, so that it may be taken.

A checkpoint is a file or a folder directly in `checkpoints/`. Names that begin with `.` or end in `.tmp` or `.part`
are being written and are left alone: write there and rename, and it is finished at once. Others are when they were
closed and unchanged for some seconds, or when the command has ended by itself: one that it was perhaps still writing
when it was cut off is not taken, nor one that is half by its own format. One that changes later is taken again, as a
newer one.
"""

from __future__ import annotations

import contextlib
import os

from launcher.runner.blobs import walk
from launcher.runner.renames import Renames
from launcher.runner.wholeness import half

TYPE_CHECKING = False
if TYPE_CHECKING:
    Signature = tuple[tuple[str, int, int, int], ...]

UNFINISHED = (".tmp", ".part")


def candidates(folder: str) -> list[str]:
    """Return the names that may be checkpoints, oldest change first, so that the newest gets the highest number.

    A link, a pipe or a socket is none: as the newest it would be all that a resume finds.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.endswith(UNFINISHED):
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    return [name for _, name in sorted(found)]


def signature(folder: str, name: str) -> Signature:
    """Return what changes when anything below a checkpoint is written; empty when it is gone, or a folder without a
    file or link."""
    try:
        files = walk(os.path.join(folder, name))
    except OSError:
        return ()
    return tuple(found.signature for found in files) if any(found.kind != "other" for found in files) else ()


def replaces(sign: Signature, before: Signature) -> bool:
    """Return whether one file took another's place: a rename, even one in the same tick of the clock as the writing."""
    return len(sign) == len(before) == 1 and sign[0][3] != before[0][3]


def newest(sign: Signature) -> int:
    """Return when anything below a checkpoint was last written, in ns of Unix time."""
    return max(mtime_ns for _, _, mtime_ns, _ in sign)


class Watch:
    """Knows which checkpoints were taken, and which are finished now."""

    def __init__(
        self,
        folder: str,
        quiet_s: float,
        quiet_folder_s: float,
        restored: dict[str, Signature],
        renames: Renames | None = None,
    ) -> None:
        self.folder, self.quiet_s, self.quiet_folder_s = folder, quiet_s, quiet_folder_s
        self.renames = renames or Renames(folder)
        self.seen: dict[str, tuple[Signature, float]] = {}
        self.taken = dict(restored)

    def finished(self, now: float, final: bool) -> list[tuple[str, Signature]]:
        """Return what is new and finished; at the end, all that is new. `now` is in monotonic seconds."""
        found = []
        for name in candidates(self.folder):
            sign = signature(self.folder, name)
            if not sign or self.taken.get(name) == sign:
                continue
            before, since = self.seen.get(name, ((), now))
            replaced = replaces(sign, before) or replaces(sign, self.taken.get(name, ()))
            self.seen[name] = (sign, since if before == sign else now)
            quiet_s = 0.0 if replaced else self.quiet_time(name, sign)
            quiet = final or (now - self.seen[name][1] >= quiet_s and not self.open_for_writing(name))
            if quiet and not half(os.path.join(self.folder, name)):
                found.append((name, self.renamed_over(name, sign)))
        return found

    def renamed_over(self, name: str, sign: Signature) -> Signature:
        """Return the signature of what was renamed over a finished one while that was looked at, else the one given.

        To look for who has it open takes long where many processes run; a command that saves often would always be
        faster. What the kernel says was renamed into its place, and not written to since, is whole as well.
        """
        later = signature(self.folder, name)
        return later if replaces(later, sign) and name in self.renames.hear() else sign

    def half_ones(self) -> list[str]:
        """Return what is new and, by its own format, was never written to its end."""
        names = [name for name in candidates(self.folder) if self.taken.get(name) != signature(self.folder, name)]
        return [name for name in names if half(os.path.join(self.folder, name))]

    def doubtful(self, wall_s: float) -> list[str]:
        """Return what is new and was perhaps being written when the command was cut off at `wall_s` (Unix time):
        neither renamed into its place nor left alone for its quiet time."""
        found = []
        for name in candidates(self.folder):
            sign = signature(self.folder, name)
            before = self.seen.get(name, ((), 0.0))[0]
            if not sign or self.taken.get(name) == sign or replaces(sign, before):
                continue
            if wall_s - newest(sign) / 1e9 < self.quiet_time(name, sign):
                found.append(name)
        return found

    def quiet_time(self, name: str, sign: Signature) -> float:
        """Return how long it must have been unchanged, in seconds: not at all if it was renamed into its place.

        A write sets a file's mtime and ctime to the same moment, and so does a new entry a folder's; a rename sets
        only the ctime (inode(7)). When both came in one tick of the clock, the kernel's own word decides.
        """
        try:
            now = os.lstat(os.path.join(self.folder, name))
        except OSError:
            return self.quiet_folder_s  # gone meanwhile
        heard = name in self.renames.hear() and newest(sign) <= now.st_ctime_ns
        if heard or now.st_ctime_ns > now.st_mtime_ns:
            return 0.0
        return self.quiet_folder_s if os.path.isdir(os.path.join(self.folder, name)) else self.quiet_s

    def open_for_writing(self, name: str) -> bool:
        """Return whether a process that we may look at holds a file of it open for writing (proc(5))."""
        inside = os.path.realpath(os.path.join(self.folder, name))
        return any(
            target == inside or target.startswith(inside + "/")
            for target in map(written_target, descriptors())
            if target
        )


def descriptors() -> list[str]:
    """Return the paths below /proc of all open descriptors that we may look at."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found += [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    return found


def written_target(descriptor: str) -> str:
    """Return the file behind a descriptor if it was opened for writing, else ''."""
    try:
        target = os.readlink(descriptor)
        if not target.startswith("/"):
            return ""
        with open(descriptor.replace("/fd/", "/fdinfo/")) as info:
            flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags:"))
    except (OSError, StopIteration, ValueError):
        return ""
    return target if flags & os.O_ACCMODE else ""
