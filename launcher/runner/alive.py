"""A sign that the runner lives: locks that the kernel lets go of when it ends, whatever runs its container."""

from __future__ import annotations

import contextlib
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.runner.attempt import Attempt

held: list[int] = []


def hold(path: str, attempt: Attempt) -> None:
    """Hold `attempt.json`, by which a client sees that an attempt goes on, and the folder of the store's credentials.

    Both are shared locks: the client has the same. Where a file system knows none, nothing is told.
    """
    store = attempt.store
    secrets = store.get("secrets") if isinstance(store, dict) else None
    places = [path, *([os.path.join(os.path.dirname(secrets), "held")] if secrets else [])]
    for place in places:
        with contextlib.suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            held.append(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
