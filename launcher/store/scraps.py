"""What killed writers leave in a folder store: files named `<key>#<n>`, which no listing shows."""

from __future__ import annotations

import contextlib
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = re.compile(r".+#\d+")  # as launcher.store.folder calls them; no key of ours has a `#`


class Scrap:
    """A file that was never finished. `path` is absolute, `modified` when it was last written to (Unix time, s)."""

    __slots__ = ("key", "modified", "path", "size")

    def __init__(self, folder: str, path: str) -> None:
        status = os.lstat(path)
        self.path, self.size, self.modified = path, status.st_size, status.st_mtime
        self.key = os.path.relpath(path, folder)


def scraps(folder: str | None, below: str = "") -> Iterator[Scrap]:
    """Yield the unfinished files of a folder store below a prefix; none for a store that is no folder."""
    if folder is None:
        return
    for place, _, names in os.walk(os.path.join(folder, below)):
        for name in names:
            if TEMPORARY.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    yield Scrap(folder, os.path.join(place, name))


def remove(folder: str, key: str) -> None:
    """Delete an unfinished file of a folder store; one that is gone is no error. Raises OSError."""
    if TEMPORARY.fullmatch(key):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, key))
