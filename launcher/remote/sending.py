"""Items as the stream that `receiving` reads: each piece compressed where that pays, each item with its sha256."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from launcher.digest import CHUNK_BYTES
from launcher.progress import Task
from launcher.remote.items import Item, Link
from launcher.remote.receiving import DEFLATED, END, PIECE, PLAIN

LEVEL = 1
WORTH = 0.9  # a piece that stays bigger than so much of itself goes as it is
BLOCK = 512
MTIME = 315619200  # 1980-01-02, which every archiver knows
Compress = Callable[[bytes], bytes]


def frames(items: Iterable[Item], runs: Iterable[Sequence[str]], compiled: str | None, task: Task) -> Iterator[bytes]:
    """Yield the stream: the items in their order, then what is run there. `compiled` is the path of a Python tree."""
    compress = compressor()
    for item in items:
        head: dict[str, Any] = {"kind": "tree" if item.tree else "file", "path": item.path, "mode": item.mode}
        yield line({**head, "replace": item.replace, "compile": item.path == compiled})
        yield from content(archive(item) if item.tree else chunks_of(item.source), compress, task)
    for argv in runs:
        yield line({"kind": "run", "argv": list(argv)})
    yield line({"kind": "end"})


def line(told: dict[str, Any]) -> bytes:
    return json.dumps(told).encode() + b"\n"


def content(chunks: Iterable[bytes], compress: Compress, task: Task) -> Iterator[bytes]:
    """Yield pieces and what they come to."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        small = compress(chunk)
        flag, data = (DEFLATED, small) if len(small) < WORTH * len(chunk) else (PLAIN, chunk)
        yield PIECE.pack(flag, len(data))
        yield data
        task.advance(len(chunk))
    yield PIECE.pack(END, 0)
    yield digest.digest()


def compressor() -> Compress:
    """Return the fastest that this machine has: isal is several times as fast as zlib."""
    try:
        from isal import isal_zlib
    except ImportError:
        return lambda data: zlib.compress(data, LEVEL)
    return lambda data: isal_zlib.compress(data, LEVEL)


def chunks_of(source: object) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for at in range(0, len(source), CHUNK_BYTES):
            yield source[at : at + CHUNK_BYTES]
        return
    with Path(str(source)).open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def archive(item: Item) -> Iterator[bytes]:
    """Yield a tree as a tar archive, without owners and times: small files come together in one piece."""
    held: list[bytes] = []
    size = 0
    for chunk in members(item):
        held.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join([*held, bytes(2 * BLOCK)])


def members(item: Item) -> Iterator[bytes]:
    for name, source, mode in item.entries():
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = mode, MTIME
        if isinstance(source, Link):
            info.type, info.linkname = tarfile.SYMTYPE, source.target
            yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
            continue
        info.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        yield from chunks_of(source)
        if rest := -info.size % BLOCK:
            yield bytes(rest)
