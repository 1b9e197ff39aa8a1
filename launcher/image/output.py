"""Big files of a user's, written whole or not at all, of which killed writers leave nothing for long."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from launcher.cache import try_lock, written_whole


@contextlib.contextmanager
def written_once(path: Path) -> Iterator[Path]:
    """Give a place as `written_whole` does, for a big file of a user's: what killed writers left of it is removed.

    Who writes holds a lock on its part. Where a file system has no locks, nothing is removed.
    """
    with written_whole(path) as part, contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            held.callback(os.close, descriptor)
            if try_lock(descriptor):
                remove_parts(path)
        yield part


def remove_parts(path: Path) -> None:
    """Remove the parts of a file that nobody writes to any more."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.[0-9a-f]{{8}}")
    for part in [place for place in path.parent.iterdir() if name.fullmatch(place.name)]:
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if try_lock(descriptor):
                    part.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
