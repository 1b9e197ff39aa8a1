"""Objects under keys: put, create once, get, list, delete. Every error of the library below becomes one of ours."""

from __future__ import annotations

import os
import threading
import time

from launcher.store.access import Access
from launcher.store.backends import backend
from launcher.store.credentials import Credentials
from launcher.store.faults import translated
from launcher.store.keys import CLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from typing import Any, Protocol

    from obstore.store import ObjectStore

    from launcher.errors import LauncherError

    class Limit(Protocol):
        """Holds back what would be too fast."""

        def take(self, amount: int) -> object: ...


PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4  # bounds the memory of an upload of a stream to PART_BYTES times this
CREATES = 3  # tries of a conditional create that met another one: S3 answers 409 then, and wants to be asked again
CLOCK_S = 60.0  # how long the store's clock is believed to go as this machine's does


class Entry:
    """One line of a listing. `size` is in bytes; `modified` by the store's clock, in UTC."""

    __slots__ = ("key", "modified", "size")

    def __init__(self, key: str, size: int, modified: datetime) -> None:
        self.key, self.size, self.modified = key, size, modified


class Store:
    """Objects below one URL. Threads may share it.

    Where credentials were renewed (a file of secrets was replaced), what was refused for the old ones is asked again.
    """

    def __init__(
        self, access: Access, folder: str | None, credentials: Callable[[], Mapping[str, str]] | None = None
    ) -> None:
        """Open a folder, a bucket, or a store in memory when it is neither. Raises a StoreError when it can't be."""
        self.access, self.url, self.folder = access, access.url, folder
        self._credentials = Credentials(credentials) if credentials is not None else None
        self._inner = self._opened()
        self._renewing = threading.Lock()
        self._clock: tuple[float, datetime] | None = None
        self.careful_until = 0.0  # on the monotonic clock: the link was slow, so fewer and smaller requests

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Write an object, over an older one if there is one; a stream of bytes is never held whole in memory.

        An error raised by the stream leaves nothing behind and comes out as it is.
        """
        if isinstance(data, bytes):
            self.call(key, lambda inner: inner.put(key, data, use_multipart=False))
        else:
            self._stream(key, iter(data))

    def put_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        moved: Callable[[int], object] | None = None,
        limit: Limit | None = None,
    ) -> None:
        """Write an object from a file, in parallel parts. `moved` hears of bytes as they go out, `limit` holds them.

        Memory is bounded by `transfers.PART_BYTES` times `transfers.UPLOADS`. Raises OSError when the file can't be
        read, and what every call raises.
        """
        from launcher.store import transfers

        transfers.upload(self, key, os.fspath(path), moved, limit)

    def get_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        sha256: str | None = None,
        moved: Callable[[int], object] | None = None,
    ) -> None:
        """Write an object to a file, by parallel ranges, through a rename: a failure leaves nothing behind.

        Raises IntegrityError when its bytes have another digest than `sha256`, DiskFullError, ObjectMissingError.
        """
        from launcher.store import transfers

        transfers.download(self, key, os.fspath(path), sha256, moved)

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if there is none yet, atomically.

        Raises ObjectExistsError. After an answer was lost on its way the one who was there before may be ourselves:
        whoever must know looks at the content.
        """
        from launcher.errors import UnreachableError

        for left in reversed(range(CREATES)):
            try:
                self.call(key, lambda inner: inner.put(key, data, mode="create"))
                return
            except UnreachableError as e:
                if not left or "ConditionalRequestConflict" not in str(e):
                    raise

    def get(self, key: str) -> bytes:
        """Return an object. Raises ObjectMissingError."""
        return bytes(self.read(key, lambda inner: inner.get(key).bytes()))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer, or none, where the object ends before."""
        size = self.size(key)
        length = min(length, size - start)
        if length <= 0:
            return b""
        return bytes(self.call(key, lambda inner: inner.get_range(key, start=start, length=length)))

    def stream(self, key: str) -> Iterator[bytes]:
        """Return an object piece by piece."""
        pieces = self.read(key, lambda inner: iter(inner.get(key).stream(min_chunk_size=1 << 20)))
        while (piece := self.call(key, lambda inner: next(pieces, None))) is not None:
            yield bytes(piece)

    def size(self, key: str) -> int:
        """Return an object's size in bytes. Raises ObjectMissingError."""
        return int(self.read(key, lambda inner: inner.head(key))["size"])

    def exists(self, key: str) -> bool:
        from launcher.errors import ObjectMissingError

        try:
            self.size(key)
        except ObjectMissingError:
            return False
        return True

    def list(self, prefix: str = "", after: str | None = None) -> list[Entry]:
        """Return all whole objects whose keys begin with `prefix` (which ends in `/`, or is empty), sorted by key.

        With `after` only those whose keys sort after it; S3 and Google don't send the others at all.
        """
        below = prefix.rstrip("/") or None
        found = self.call(prefix, lambda inner: inner.list(below, offset=after).collect())
        entries = (Entry(x["path"], x["size"], x["last_modified"]) for x in found)
        return sorted((x for x in entries if after is None or x.key > after), key=lambda entry: entry.key)

    def folders(self, prefix: str = "") -> tuple[str, ...]:
        """Return the names directly below `prefix` that have objects below them, sorted."""
        found = self.call(prefix, lambda inner: inner.list_with_delimiter(prefix.rstrip("/") or None))
        return tuple(sorted(path.rpartition("/")[2] for path in found["common_prefixes"]))

    def delete(self, key: str) -> None:
        """Remove an object. One that is not there is no error, on any store."""
        from launcher.errors import ObjectMissingError

        try:
            self.call(key, lambda inner: inner.delete(key))
        except ObjectMissingError:
            return

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield (key, object) as they come, many at once; None for one that is missing."""
        from launcher.store import bulk

        return bulk.get_many(self, keys)

    def put_many(self, objects: Iterable[tuple[str, bytes | os.PathLike[str]]]) -> None:
        """Write many objects at once, from bytes or files. Raises the first error when the others are through."""
        from launcher.store import bulk

        bulk.put_many(self, objects)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove many objects. Those that are not there are no error."""
        from launcher.store import bulk

        bulk.delete_many(self, keys)

    def now(self) -> datetime:
        """Return the store's own time, in UTC, to the second: when it says that an object was just written.

        Asked again after CLOCK_S seconds; between, this machine's monotonic clock counts. Writes the object `clock`.
        """
        from datetime import timedelta

        since = time.monotonic()
        if self._clock is None or since - self._clock[0] > CLOCK_S:
            self.put(CLOCK, b"")
            self._clock = (since, self.call(CLOCK, lambda inner: inner.head(CLOCK))["last_modified"])
        told: datetime = self._clock[1] + timedelta(seconds=time.monotonic() - self._clock[0])
        return told

    def read(self, key: str, ask: Callable[[ObjectStore], Any]) -> Any:
        """Ask for an object. S3 doesn't tell that one is missing to whom it may not list the bucket, but a part of it
        ("GetObject" of the S3 API Reference): narrowed credentials are refused, and then a listing decides."""
        from launcher.errors import AccessError, ObjectMissingError, StoreError

        try:
            return self.call(key, ask)
        except AccessError as refused:
            if not self.url.startswith("s3"):
                raise
            try:
                there = self._is_listed(key)
            except StoreError:
                raise refused from None
            if there:
                raise
        raise ObjectMissingError(f"{self.url}: {key}: is not there")

    def _is_listed(self, key: str) -> bool:
        above = key.rpartition("/")[0]
        pages = self.call(above, lambda inner: iter(inner.list(above or None, offset=key[:-1])))
        while (page := self.call(above, lambda _: next(pages, None))) is not None:
            if any(entry["path"] == key for entry in page):
                return True
            if any(entry["path"] > key for entry in page):
                return False
        return False

    def call(self, key: str, ask: Callable[[ObjectStore], Any]) -> Any:
        """Ask, and raise one of our errors; ask once more where credentials were renewed meanwhile."""
        from launcher.errors import AccessError

        inner = self._inner
        try:
            return ask(inner)
        except Exception as e:
            fault = self.fault(key, e)
        if isinstance(fault, AccessError) and self._renewed(inner):
            try:
                return ask(self._inner)
            except Exception as e:
                fault = self.fault(key, e)
        raise fault

    def fault(self, key: str, error: Exception) -> LauncherError:
        """Return our error for one of the library's. What our credentials failed with comes out as it is."""
        from launcher.errors import LauncherError

        if isinstance(error, LauncherError):
            return error
        own = self._credentials.error if self._credentials is not None else None
        if type(error).__name__ == "UnauthenticatedError" and isinstance(own, LauncherError):
            return own
        return translated(error, f"{self.url}: {key}" if key else self.url, self.access)

    def _renewed(self, used: ObjectStore) -> bool:
        """Open the store anew where credentials are others than those that `used` had; another thread may have."""
        with self._renewing:
            if self._inner is used and self._credentials is not None and self._credentials.renewed():
                self._inner = self._opened()
            return self._inner is not used

    def _opened(self) -> ObjectStore:
        try:
            return backend(self.access, self.folder, self._credentials)
        except Exception as e:
            raise self.fault("", e) from None

    def _stream(self, key: str, chunks: Iterator[bytes]) -> None:
        source = Source(chunks)
        try:
            self._inner.put(key, source, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        except Exception as e:
            if source.error is not None:
                raise source.error from None
            raise self.fault(key, e) from None


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
