"""Whether a runner lives: it holds the file that it was started with, `attempt.json` (launcher.runner.alive)."""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_held(path: Path) -> bool:
    """Tell whether somebody holds a file, as a runner does its `attempt.json`."""
    try:
        with path.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not there, or a file system without locks
        return False
    return False
