"""Big files up and down: parallel parts of bounded memory, hashed as they pass."""

from __future__ import annotations

import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from typing import Any

    from obstore import GetOptions

    from launcher.store.objects import Limit, Store

    Moved = Callable[[int], object]

PART_BYTES = 8 << 20
UPLOADS, DOWNLOADS = 6, 4  # parts and ranges at once; the memory of an upload is PART_BYTES times this
# A range of a download is a stream, so its size is no matter of memory. Few big ones are cheap for the server; small
# ones let the digest, which follows in order, be nearly done when the last byte comes.
RANGES, RANGE_LEAST, RANGE_MOST = 16, 16 << 20, 64 << 20
CAREFUL_BYTES, CAREFUL = 5 << 20, 1  # on a slow link; 5 MiB is the least that S3 takes as a part
CAREFUL_S = 600.0  # then it is tried at full speed again
PARTS_AT_MOST = 10_000  # of one upload to S3
PIECE_BYTES = 1 << 20


def upload(store: Store, key: str, path: str, moved: Moved | None, limit: Limit | None) -> None:
    """Write an object from a file; see Store.put_file. A part that found no answer in time makes the store careful."""
    from launcher.errors import UnreachableError
    from launcher.store.faults import slow

    try:
        send(store, key, path, moved, limit)
    except UnreachableError as e:
        if careful(store) or not slow(e) or os.stat(path).st_size <= CAREFUL_BYTES:
            raise
        store.careful_until = time.monotonic() + CAREFUL_S
        send(store, key, path, moved, limit)


def careful(store: Store) -> bool:
    return time.monotonic() < store.careful_until


def send(store: Store, key: str, path: str, moved: Moved | None, limit: Limit | None) -> None:
    """Send a file in parts, or in one request if it is no bigger than one."""
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        part, at_once = (CAREFUL_BYTES, CAREFUL) if careful(store) else (PART_BYTES, UPLOADS)
        part = max(part, -(-size // PARTS_AT_MOST))
        send_parts(store, key, lambda: pieces(stream, moved, limit), size, part, at_once)


def send_parts(
    store: Store, key: str, chunks: Callable[[], Iterator[bytes]], size: int, part: int, at_once: int
) -> None:
    """Send what `chunks` yields anew at each call; what it raises comes out as it is."""
    from launcher.errors import LauncherError
    from launcher.store.objects import Source

    tries: list[Source] = []

    def ask(inner: Any) -> None:
        tries.append(source := Source(chunks()))
        if size <= part:
            inner.put(key, b"".join(source), use_multipart=False)
        else:
            inner.put(key, source, chunk_size=part, max_concurrency=at_once)

    try:
        store.call(key, ask)
    except LauncherError:
        if tries and tries[-1].error is not None:
            raise tries[-1].error from None
        raise


def pieces(stream: FileIO, moved: Moved | None, limit: Limit | None) -> Iterator[bytes]:
    """Yield a file piece by piece, as the limit allows, and tell of each when the next one is asked for."""
    stream.seek(0)
    while piece := stream.read(PIECE_BYTES):
        if limit is not None:
            limit.take(len(piece))
        yield piece
        if moved is not None:
            moved(len(piece))


def download(store: Store, key: str, path: str, sha256: str | None, moved: Moved | None) -> None:
    """Write an object to a file; see Store.get_file."""
    from launcher.errors import DiskFullError, IntegrityError

    part = f"{path}.{os.getpid()}.{threading.get_ident():x}.part"
    try:
        with open(part, "w+b", buffering=0) as out:
            found = receive(store, key, out.fileno(), sha256 is not None, moved)
        if found != sha256:
            raise IntegrityError(
                f"{store.url}: {key}: came as sha256 {found}, not {sha256}",
                hint="was it damaged in the store or on the way? `launcher vault verify` looks at the store's side",
            )
        os.replace(part, path)
    except OSError as e:
        if e.errno in (28, 122):  # ENOSPC, EDQUOT
            raise DiskFullError(f"{path}: no space is left on this machine", hint="free some, and ask again") from e
        raise
    finally:
        if os.path.exists(part):
            os.unlink(part)


def receive(store: Store, key: str, out: int, hashed: bool, moved: Moved | None) -> str | None:
    """Write an object to an open file by several ranges at once; return its digest if asked.

    A range is a stream that is written where it belongs as it comes, so memory stays small however long it is. The
    digest follows behind, from the page cache.
    """
    import hashlib

    digest = hashlib.sha256() if hashed else None
    for start, end in arrived(store, key, out, moved):
        if digest is not None:
            for at in range(start, end, PIECE_BYTES):
                digest.update(os.pread(out, min(PIECE_BYTES, end - at), at))
    return digest.hexdigest() if digest is not None else None


def arrived(store: Store, key: str, out: int, moved: Moved | None) -> Iterator[tuple[int, int]]:
    """Fetch an object into an open file; yield (start, end) of what is there, in order."""
    from concurrent.futures import ThreadPoolExecutor

    first, size = beginning(store, key)
    write(out, first, 0, moved)
    yield 0, len(first)
    length = max(RANGE_LEAST, min(RANGE_MOST, size // RANGES))
    starts = range(len(first), size, length)
    if not starts:
        return
    stop = threading.Event()
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        try:
            ends = [min(start + length, size) for start in starts]
            futures = [
                pool.submit(fetch, store, key, out, start, end, moved, stop)
                for start, end in zip(starts, ends, strict=True)
            ]
            for future, start, end in zip(futures, starts, ends, strict=True):
                future.result()
                yield start, end
        finally:
            stop.set()


def fetch(store: Store, key: str, out: int, start: int, end: int, moved: Moved | None, stop: threading.Event) -> None:
    """Write one range of an object to where it belongs; give up quietly when another one has failed."""
    from launcher.errors import UnreachableError

    if stop.is_set():
        return
    at = start
    asked: GetOptions = {"range": (start, end)}
    stream = store.call(key, lambda inner: iter(inner.get(key, options=asked).stream(min_chunk_size=PIECE_BYTES)))
    while not stop.is_set() and (piece := store.call(key, lambda _: next(stream, None))) is not None:
        write(out, piece, at, moved)
        at += len(piece)
    if at < end and not stop.is_set():
        raise UnreachableError(f"{store.url}: {key}: broke off after {at} bytes", hint="trying again may help")


def write(out: int, piece: Any, at: int, moved: Moved | None) -> None:
    view = memoryview(piece)
    while view:
        done = os.pwrite(out, view, at)
        view, at = view[done:], at + done
    if moved is not None:
        moved(len(piece))


def beginning(store: Store, key: str) -> tuple[Any, int]:
    """Return (the first part of an object, its whole size) in one request. A range of nothing is refused, so an
    empty object is asked for again."""
    from launcher.errors import StoreError

    def ask(inner: Any) -> tuple[Any, int]:
        found = inner.get(key, options={"range": (0, PART_BYTES)})
        return found.bytes(), int(found.meta["size"])

    try:
        found: tuple[Any, int] = store.read(key, ask)
    except StoreError as e:
        if type(e) is not StoreError or store.size(key):
            raise
        return b"", 0
    return found
