"""File locks of a node's inputs: who makes or removes an entry holds its lock alone, who uses it shares it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import DiskFullError, LauncherError
from launcher.progress import SILENT, Progress

ALONE = fcntl.LOCK_EX
ALONE_NOW = fcntl.LOCK_EX | fcntl.LOCK_NB
TOGETHER = fcntl.LOCK_SH


def take(path: Path, how: int) -> int:
    """Take a lock; return the descriptor that holds it until it is closed, or until the process ends.

    Raises BlockingIOError when `how` doesn't wait and somebody has it, LauncherError where it can't be taken at all.
    """
    while True:
        try:
            descriptor = opened(path)
        except OSError as e:
            raise unusable(path.parent.parent, e) from e
        try:
            fcntl.flock(descriptor, how)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:  # else it was removed while we waited
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as e:
            os.close(descriptor)
            raise unusable(path.parent.parent, e) from e
        os.close(descriptor)


def opened(path: Path) -> int:
    """Open a lock file. Another user's can be locked too, if it can be read."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextlib.contextmanager
def alone(path: Path, what: str, progress: Progress = SILENT) -> Iterator[None]:
    """Do something that only one process of the node does at a time; the others are told that they wait."""
    try:
        descriptor = take(path, ALONE_NOW)
    except BlockingIOError:
        progress.note(f"{what}: another process of this machine is bringing it; waiting")
        descriptor = take(path, ALONE)
    try:
        yield
    finally:
        os.close(descriptor)


def unusable(root: Path, error: OSError) -> LauncherError:
    """Say that the folder of inputs can't be made or written to, or knows no locks."""
    kind = DiskFullError if error.errno in (28, 122) else LauncherError  # ENOSPC, EDQUOT
    return kind(
        f"the folder of inputs {root} can't be used: {error.strerror}",
        hint="point LAUNCHER_INPUTS at a folder that you may write to, on a file system with locks",
    )
