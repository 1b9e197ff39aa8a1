"""Big files up and down: parallel parts of bounded memory, hashed as they pass."""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    from launcher.store.objects import Limit, Store

    Moved = Callable[[int], object]

PART_BYTES = 8 << 20
UPLOADS, DOWNLOADS = 6, 6  # parts at once; memory is PART_BYTES times this
CAREFUL_BYTES, CAREFUL = 5 << 20, 1  # on a slow link; 5 MiB is the least that S3 takes as a part
PARTS_AT_MOST = 10_000  # of one upload to S3
PIECE_BYTES = 1 << 20


def upload(store: Store, key: str, path: str, moved: Moved | None, limit: Limit | None) -> None:
    """Write an object from a file; see Store.put_file. A part that found no answer in time makes the store careful."""
    from launcher.errors import UnreachableError
    from launcher.store.faults import slow

    try:
        send(store, key, path, moved, limit)
    except UnreachableError as e:
        if store.careful or not slow(e) or os.stat(path).st_size <= CAREFUL_BYTES:
            raise
        store.careful = True
        send(store, key, path, moved, limit)


def send(store: Store, key: str, path: str, moved: Moved | None, limit: Limit | None) -> None:
    """Send a file in parts, or in one request if it is no bigger than one."""
    from launcher.errors import LauncherError
    from launcher.store.objects import Source

    size = os.stat(path).st_size
    part, at_once = (CAREFUL_BYTES, CAREFUL) if store.careful else (PART_BYTES, UPLOADS)
    part = max(part, -(-size // PARTS_AT_MOST))
    tries: list[Source] = []

    def ask(inner: Any) -> None:
        with open(path, "rb", buffering=0) as stream:
            tries.append(source := Source(pieces(stream, part, moved, limit)))
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


def pieces(stream: BinaryIO, size: int, moved: Moved | None, limit: Limit | None) -> Iterator[bytes]:
    """Yield a file piece by piece, as the limit allows, and tell of each when the next one is asked for."""
    while piece := stream.read(min(size, PIECE_BYTES)):
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
        with open(part, "wb", buffering=0) as out:
            found = receive(store, key, out, sha256 is not None, moved)
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


def receive(store: Store, key: str, out: BinaryIO, hashed: bool, moved: Moved | None) -> str | None:
    """Write an object to an open file in order, while the next ranges are on their way; return its digest if asked."""
    import hashlib

    digest = hashlib.sha256() if hashed else None
    for piece in ranges(store, key):
        if digest is not None:
            digest.update(piece)
        view = memoryview(piece)
        while view:
            view = view[out.write(view) :]
        if moved is not None:
            moved(len(piece))
    return digest.hexdigest() if digest is not None else None


def ranges(store: Store, key: str) -> Iterator[Any]:
    """Yield an object in order, with up to DOWNLOADS ranges under way at once."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    first, size = beginning(store, key)
    yield first
    starts = iter(range(PART_BYTES, size, PART_BYTES))
    if size <= PART_BYTES:
        return

    def ask(start: int) -> Any:
        end = min(start + PART_BYTES, size)
        return store.call(key, lambda inner: inner.get_range(key, start=start, end=end))

    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        try:
            while True:
                while len(waiting) < DOWNLOADS and (start := next(starts, None)) is not None:
                    waiting.append(pool.submit(ask, start))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def beginning(store: Store, key: str) -> tuple[Any, int]:
    """Return (the first part of an object, its whole size) in one request. A range of nothing is refused, so an
    empty object is asked for again."""
    from launcher.errors import StoreError

    def ask(inner: Any) -> tuple[Any, int]:
        found = inner.get(key, options={"range": (0, PART_BYTES)})
        return found.bytes(), int(found.meta["size"])

    try:
        found: tuple[Any, int] = store.call(key, ask)
    except StoreError as e:
        if type(e) is not StoreError or store.size(key):
            raise
        return b"", 0
    return found
