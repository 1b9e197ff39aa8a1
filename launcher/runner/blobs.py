"""Files on their way into the store: what a folder holds, whether it changes, and its bytes by sha256."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from launcher.store.objects import Store

CHUNK_BYTES = 1 << 20


class ChangedError(Exception):
    """A file is not what it was a moment ago. It is taken later, or told as missing."""


class Found:
    """A file, link or something else below a folder. `path` is relative, with `/`."""

    __slots__ = ("full", "kind", "path", "signature", "size", "stat_mode")

    def __init__(self, full: str, path: str) -> None:
        now = os.lstat(full)
        self.full, self.path, self.size, self.stat_mode = full, path, now.st_size, now.st_mode
        self.signature = (path, now.st_size, now.st_mtime_ns, now.st_ino)
        kinds = ((stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
        self.kind = next((name for test, name in kinds if test(now.st_mode)), "other")

    @property
    def mode(self) -> str:
        """What is kept of the mode: whether it may be executed."""
        return "0755" if self.stat_mode & 0o100 else "0644"


def walk(full: str, path: str = "") -> list[Found]:
    """Return everything below a folder that is no folder, sorted; of a file, that file. Links aren't followed.

    Raises OSError when something vanishes meanwhile.
    """
    if not stat.S_ISDIR(os.lstat(full).st_mode):
        return [Found(full, path or os.path.basename(full))]
    found: list[Found] = []
    for name in sorted(os.listdir(full)):
        found += walk(os.path.join(full, name), f"{path}/{name}" if path else name)
    return found


def sha256_file(path: str, moved: Callable[[], None]) -> str:
    """Hash a file; `moved` hears of every piece, because hashing a large checkpoint takes minutes too."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            moved()
    return digest.hexdigest()


def checked_chunks(path: str, sha256: str, moved: Callable[[], None]) -> Iterator[bytes]:
    """Read a file again for its upload. Raises ChangedError before its end if it isn't the file that was hashed:
    an upload that fails leaves nothing, so no object ever lies under a digest that isn't its own."""
    import hashlib

    digest = hashlib.sha256()
    held = b""
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            if held:
                yield held
                moved()
            held = chunk
    if digest.hexdigest() != sha256:
        raise ChangedError(f"{path} changed while it was read")
    yield held


def upload(store: Store, file: Found, key_of: Callable[[str], str], moved: Callable[[], None]) -> dict[str, Any]:
    """Put a file under the key that `key_of` makes of its sha256; return its line for a manifest.

    Raises ChangedError, OSError or a LauncherError.
    """
    line: dict[str, Any] = {"path": file.path, "mode": file.mode}
    if file.kind == "link":
        return {"path": file.path, "link": os.readlink(file.full)}
    sha256 = sha256_file(file.full, moved)
    key = key_of(sha256)
    if sha256 not in key or not store.exists(key):  # the same content is stored once
        if file.size <= CHUNK_BYTES:
            store.put(key, b"".join(checked_chunks(file.full, sha256, moved)))
        else:
            store.put(key, checked_chunks(file.full, sha256, moved))
    moved()
    return {**line, "size": file.size, "sha256": sha256}
