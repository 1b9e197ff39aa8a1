"""Items as the stream that `receiving` reads: each piece compressed where that pays, each item with its sha256."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.digest import CHUNK_BYTES
from launcher.progress import Task
from launcher.remote.items import BLOCK, Item, Link
from launcher.remote.receiving import COPIED, DEFLATED, END, PIECE, PLAIN, SPAN

LEVEL = 1
WORTH = 0.9  # a piece that stays bigger than so much of itself goes as it is
MTIME = 315619200  # 1980-01-02, which every archiver knows
Compress = Callable[[bytes], bytes]
NOTHING: Mapping[str, int] = MappingProxyType({})


def frames(
    items: Iterable[Item],
    runs: Iterable[Sequence[str]],
    compiled: str | None,
    task: Task,
    parts: Mapping[str, int] = NOTHING,
) -> Iterator[bytes]:
    """Yield the stream: the items in their order, then what is run there. `compiled` is the path of a Python tree,
    `parts` tells what is there already of an item that was cut."""
    compress = compressor()
    for item in items:
        head: dict[str, Any] = {"kind": "tree" if item.tree else "file", "path": item.path, "mode": item.mode}
        start = begun(item, parts)
        part = {"part": item.part, "start": start} if item.part else {}
        base = {"base": item.base} if item.base else {}
        yield line({**head, "replace": item.replace, "compile": item.path == compiled, **part, **base})
        if item.base:
            yield from stepwise(item, compress, task, start)
        else:
            yield from content(archive(item) if item.tree else chunks_of(item.source), compress, task, start)
    for argv in runs:
        yield line({"kind": "run", "argv": list(argv)})
    yield line({"kind": "end"})


def begun(item: Item, parts: Mapping[str, int]) -> int:
    """Return how many bytes of an item are there already."""
    return min(parts.get(item.part, 0), item.size) if item.part else 0


def line(told: dict[str, Any]) -> bytes:
    return json.dumps(told).encode() + b"\n"


def content(chunks: Iterable[bytes], compress: Compress, task: Task, start: int = 0) -> Iterator[bytes]:
    """Yield pieces from an offset on, and what all of them come to."""
    digest, left = hashlib.sha256(), start
    for whole in chunks:
        digest.update(whole)
        chunk, left = whole[left:], max(0, left - len(whole))
        if not chunk:
            continue
        yield from piece(chunk, compress)
        task.advance(len(chunk))
    yield PIECE.pack(END, 0)
    yield digest.digest()


def piece(chunk: bytes, compress: Compress) -> Iterator[bytes]:
    small = compress(chunk)
    flag, data = (DEFLATED, small) if len(small) < WORTH * len(chunk) else (PLAIN, chunk)
    yield PIECE.pack(flag, len(data))
    yield data


def stepwise(item: Item, compress: Compress, task: Task, start: int = 0) -> Iterator[bytes]:
    """Yield a file from an offset on as its steps: what is to be copied there, and the pieces that are not there."""
    digest, source = hashlib.sha256(), Path(str(item.source))
    with source.open("rb") as stream:
        for size in sizes(start):
            digest.update(stream.read(size))
        for step in item.rest(start):
            for size in sizes(step.size):
                chunk = stream.read(size)
                digest.update(chunk)
                if not step.copied:
                    yield from piece(chunk, compress)
                    task.advance(len(chunk))
            if step.copied:
                yield PIECE.pack(COPIED, SPAN.size)
                yield SPAN.pack(step.at, step.size)
    yield PIECE.pack(END, 0)
    yield digest.digest()


def sizes(total: int) -> Iterator[int]:
    while total:
        yield min(total, CHUNK_BYTES)
        total -= min(total, CHUNK_BYTES)


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
