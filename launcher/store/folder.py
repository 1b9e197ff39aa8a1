"""A folder as a store: obstore's LocalStore, but for writing, which survives a power cut.

An object is written to `<key>#<n>`, brought to the disk (fsync(2)), and only then linked (create) or renamed (put) to
its name; the name is on the disk too when the call returns. So what a manifest names is whole whenever the manifest
is there. A killed writer leaves only a `#<n>` file, which no listing shows. Of a long name only the beginning stands
before `#<n>`: file systems allow 255 bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

BEGINNING = 50  # characters of a name that a part's name begins with: at most 200 bytes of UTF-8
CANNOT = (errno.EINVAL, errno.ENOTSUP)  # what file systems without fsync answer
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # and those without hard links (link(2)): the part is our own


class Folder:
    """As obstore's stores are asked. `root` is absolute and exists."""

    def __init__(self, root: str) -> None:
        from obstore.store import LocalStore

        self.root, self.inner = root, LocalStore(root)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put(self, key: str, data: bytes | Iterable[bytes], *, mode: str = "overwrite", **_: object) -> None:
        """Write an object. Raises FileExistsError where it should be created and is there, OSError, StoreError, and
        what `data` raises."""
        path = os.path.join(self.root, key)
        above, name = os.path.split(path)
        made = ensure(above)
        part = f"{os.path.join(above, name[:BEGINNING])}#{os.getpid()}{int.from_bytes(os.urandom(5), 'big')}"
        try:
            write(part, (data,) if isinstance(data, bytes) else data)
            if mode == "create":
                link(part, path)
            else:
                os.replace(part, path)
                part = ""
        finally:
            if part:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
        for folder in made:
            settle(folder)


def link(part: str, path: str) -> None:
    """Give a file a name that must be new. Raises StoreError where the file system has no hard links, OSError."""
    try:
        os.link(part, path)
    except OSError as e:
        if e.errno not in NO_LINKS:
            raise
        from launcher.errors import StoreError

        said = f"{path} can't be created as the only one of its name: its file system has no hard links ({e.strerror})"
        raise StoreError(said, hint="name a folder on another file system, or a bucket") from e


def write(path: str, chunks: Iterable[bytes]) -> None:
    with open(path, "xb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
        synced(file.fileno())


def ensure(folder: str) -> list[str]:
    """Make a folder where there is none; return the folders whose entries change by an object in it."""
    changed = [folder]
    while not os.path.isdir(changed[-1]):
        changed.append(os.path.dirname(changed[-1]))
    os.makedirs(folder, exist_ok=True)
    return changed


def settle(folder: str) -> None:
    """Bring a folder's names to the disk."""
    with opened(folder) as descriptor:
        synced(descriptor)


@contextlib.contextmanager
def opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def synced(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as e:
        if e.errno not in CANNOT:
            raise
