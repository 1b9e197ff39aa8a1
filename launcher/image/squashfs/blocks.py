"""Data blocks on their way into the file, in order; compressed in threads where that was asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Literal

Compression = Literal["none", "gzip", "zstd"]
IDS: dict[Compression, int] = {"none": 1, "gzip": 1, "zstd": 6}
"""squashfs_fs.h: ZLIB_COMPRESSION, ZSTD_COMPRESSION. What isn't compressed needs a name too: that of gzip, which every
reader has."""
PLAIN = 1 << 24
"""The bit of a block's size that says: not compressed."""
LEVELS = {"gzip": 6, "zstd": 6}
WAITING = 4  # blocks for each thread, so that memory stays flat


def gzip(data: bytes) -> bytes:
    import zlib

    return zlib.compress(data, LEVELS["gzip"])


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=LEVELS["zstd"]).compress(data)


COMPRESSORS: dict[Compression, Callable[[bytes], bytes]] = {"gzip": gzip, "zstd": zstd}

Told = Callable[[int, int], None]
"""Hears where a block was written, and its size as the format has it."""


class Blocks:
    """Writes blocks in the order in which they are added. Use it as a context manager; leaving it writes what waits."""

    def __init__(self, out: BinaryIO, base: int, compression: Compression, workers: int) -> None:
        self.out, self.position = out, out.tell() - base
        self.compress = COMPRESSORS.get(compression)
        self.pool = ThreadPoolExecutor(max(1, workers)) if self.compress else None
        self.most = WAITING * max(1, workers)
        self.waiting: deque[tuple[bytes, Future[bytes], Told]] = deque()

    def __enter__(self) -> Blocks:
        return self

    def add(self, data: bytes, told: Told) -> None:
        if self.pool is None or self.compress is None:
            self.write(data, len(data) | PLAIN, told)
            return
        self.waiting.append((data, self.pool.submit(self.compress, data), told))
        while len(self.waiting) > self.most:
            self.next()

    def next(self) -> None:
        """Write the block that has waited longest, as it was when compressing made it no smaller."""
        data, future, told = self.waiting.popleft()
        packed = future.result()
        if len(packed) < len(data):
            self.write(packed, len(packed), told)
        else:
            self.write(data, len(data) | PLAIN, told)

    def write(self, data: bytes, size: int, told: Told) -> None:
        self.out.write(data)
        told(self.position, size)
        self.position += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while error is None and self.waiting:
                self.next()
        finally:
            if self.pool:
                self.pool.shutdown(cancel_futures=True)
