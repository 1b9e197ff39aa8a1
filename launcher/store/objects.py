"""Objects under keys: put, create once, get, list, delete. Every error of the library below becomes one of ours.

How a folder keeps its promises (seen by strace, obstore 0.12): an object is written to `<key>#<n>`, then linked
(create) or renamed (put) to its name. A killed writer leaves only a `#<n>` file, which no listing shows and which
the next writer of that key steps around. Nothing is fsynced: a power cut may lose the last seconds.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from typing import Any

    from obstore.store import ObjectStore

    from launcher.errors import LauncherError

PART_BYTES = 4 << 20
PARTS_AT_ONCE = 4  # bounds the memory of an upload to PART_BYTES times this
FULL = ("os error 28)", "os error 122)")  # ENOSPC, EDQUOT


class Entry:
    """One line of a listing. `size` is in bytes; `modified` by the store's clock, in UTC."""

    __slots__ = ("key", "modified", "size")

    def __init__(self, key: str, size: int, modified: datetime) -> None:
        self.key, self.size, self.modified = key, size, modified


class Store:
    """Objects below one URL. Threads may share it."""

    def __init__(self, url: str, folder: str | None) -> None:
        """Open a folder, or a store in memory when there is none. Raises StoreError when it can't be made."""
        import obstore.store

        self.url, self.folder = url, folder
        self._inner: ObjectStore
        if folder is None:
            self._inner = obstore.store.MemoryStore()
            return
        try:
            os.makedirs(folder, exist_ok=True)
            self._inner = obstore.store.LocalStore(folder)
        except Exception as e:
            raise translated(e, folder) from e

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Write an object, over an older one if there is one; a stream of bytes is never held whole in memory.

        An error raised by the stream leaves nothing behind and comes out as it is.
        """
        if isinstance(data, bytes):
            self._call(key, self._inner.put, key, data)
        else:
            self._stream(key, iter(data))

    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        """Write an object from a file."""
        self.put(key, file_chunks(path))

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if there is none yet, atomically. Raises ObjectExistsError."""
        self._call(key, self._inner.put, key, data, mode="create")

    def get(self, key: str) -> bytes:
        """Return an object. Raises ObjectMissingError."""
        return bytes(self._call(key, lambda: self._inner.get(key).bytes()))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer, or none, where the object ends before."""
        size = self.size(key)
        length = min(length, size - start)
        if length <= 0:
            return b""
        return bytes(self._call(key, lambda: self._inner.get_range(key, start=start, length=length)))

    def stream(self, key: str) -> Iterator[bytes]:
        """Return an object piece by piece."""
        pieces = self._call(key, lambda: iter(self._inner.get(key).stream(min_chunk_size=1 << 20)))
        while (piece := self._call(key, next, pieces, None)) is not None:
            yield bytes(piece)

    def size(self, key: str) -> int:
        """Return an object's size in bytes. Raises ObjectMissingError."""
        return int(self._call(key, self._inner.head, key)["size"])

    def exists(self, key: str) -> bool:
        from launcher.errors import ObjectMissingError

        try:
            self.size(key)
        except ObjectMissingError:
            return False
        return True

    def list(self, prefix: str = "") -> list[Entry]:
        """Return all whole objects whose keys begin with `prefix` (which ends in `/`, or is empty), sorted by key."""
        found = self._call(prefix, lambda: self._inner.list(prefix.rstrip("/") or None).collect())
        return sorted((Entry(x["path"], x["size"], x["last_modified"]) for x in found), key=lambda entry: entry.key)

    def folders(self, prefix: str = "") -> tuple[str, ...]:
        """Return the names directly below `prefix` that have objects below them, sorted."""
        found = self._call(prefix, lambda: self._inner.list_with_delimiter(prefix.rstrip("/") or None))
        return tuple(sorted(path.rpartition("/")[2] for path in found["common_prefixes"]))

    def delete(self, key: str) -> None:
        """Remove an object. One that is not there is no error, on any store."""
        from launcher.errors import ObjectMissingError

        try:
            self._call(key, self._inner.delete, key)
        except ObjectMissingError:
            return

    def _stream(self, key: str, chunks: Iterator[bytes]) -> None:
        source = Source(chunks)
        try:
            self._inner.put(key, source, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        except Exception as e:
            if source.error is not None:
                raise source.error from None
            raise translated(e, f"{self.url}: {key}") from e

    def _call(self, key: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as e:
            raise translated(e, f"{self.url}: {key}") from e


class Source:
    """An iterator that remembers its own error, to tell it from the store's."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.error: Exception | None = None

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self.chunks)
        except StopIteration:
            raise
        except Exception as e:
            self.error = e
            raise


def file_chunks(path: str | os.PathLike[str]) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def translated(error: Exception, place: str) -> LauncherError:
    """Return our error for one of obstore's. The table is complete: what is unknown becomes a StoreError."""
    from launcher.errors import DiskFullError, ObjectExistsError, ObjectMissingError, StoreError

    said = str(error).partition("\n")[0]
    kind = type(error).__name__
    if any(mark in said for mark in FULL) or getattr(error, "errno", None) in (28, 122):
        return DiskFullError(f"{place}: no space is left in the store", hint="free some; nothing half-written was kept")
    table: dict[str, LauncherError] = {
        "AlreadyExistsError": ObjectExistsError(f"{place}: exists already, and is written only once"),
        "FileNotFoundError": ObjectMissingError(f"{place}: is not there"),
        "NotFoundError": ObjectMissingError(f"{place}: is not there"),
        "PermissionDeniedError": StoreError(f"{place}: {said}", hint="look at the folder's owner and mode"),
        "PermissionError": StoreError(f"{place}: {said}", hint="look at the folder's owner and mode"),
        "UnauthenticatedError": StoreError(f"{place}: {said}", hint="look at the store's credentials"),
    }
    return table.get(kind) or StoreError(f"{place}: {said}")
