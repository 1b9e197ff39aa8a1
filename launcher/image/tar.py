"""The one tar dialect that layers are written in: POSIX ustar, and a pax record only where ustar can't say it.

Every entry has owner 0:0 without names, one constant time, and a place in byte order of its path, so that the
same tree gives the same bytes from any builder (POSIX.1-2017, pax: "ustar Interchange Format" and "pax Header").
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.cache import write_all
from launcher.errors import ImageError
from launcher.image.tree import CHUNK_BYTES, Entry

MTIME = 315619200
"""1980-01-02 00:00 UTC: not before 1980 in any time zone, because zip files, which users make of these, begin there."""

BLOCK = 512
LARGEST_OCTAL = 8**11 - 1
TYPE = {"file": b"0", "hardlink": b"1", "symlink": b"2", "dir": b"5"}
QUEUED_PIECES = 16


def layer_chunks(entries: Iterable[Entry], checksums: dict[str, int] | None = None) -> Iterator[bytes]:
    """Yield a layer's bytes, entry by entry. `entries` must be in order; see `in_order`.

    `checksums` is filled with the CRC-32 of every file, by path.
    """
    for entry in entries:
        yield headers(entry)
        if entry.kind == "file" and entry.content is not None:
            if checksums is None:
                yield from exactly(entry)
            else:
                yield from summed(entry, checksums)
            if rest := -entry.content.size % BLOCK:
                yield bytes(rest)
    yield bytes(2 * BLOCK)


def summed(entry: Entry, checksums: dict[str, int]) -> Iterator[bytes]:
    from isal import isal_zlib  # here, because nodes and login nodes, which make no layers, have none

    checksum = 0
    for chunk in exactly(entry):
        checksum = isal_zlib.crc32(chunk, checksum)
        yield chunk
    checksums[entry.path] = checksum


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Sort by the UTF-8 bytes of the path; a folder comes before what is in it."""
    return sorted(entries, key=lambda entry: entry.path.encode())


def exactly(entry: Entry) -> Iterator[bytes]:
    """Yield an entry's content; raises ImageError when it isn't as long as it said."""
    assert entry.content is not None
    left = entry.content.size
    for chunk in entry.content.chunks():
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise ImageError(f"{entry.path}: its content isn't {entry.content.size} bytes long, as its archive says")


def headers(entry: Entry) -> bytes:
    """Return the header blocks of one entry, with a pax block before it if it needs one."""
    name = entry.path + "/" if entry.kind == "dir" else entry.path
    size = entry.content.size if entry.kind == "file" and entry.content is not None else 0
    link = entry.target if entry.kind in ("symlink", "hardlink") else ""
    records = pax_records(name, link, size)
    block = ustar(name, link, size, entry.mode, TYPE[entry.kind])
    if not records:
        return block
    body = b"".join(records)
    pax = ustar("././@PaxHeader", "", len(body), 0o644, b"x")
    return pax + body + bytes(-len(body) % BLOCK) + block


def pax_records(name: str, link: str, size: int) -> list[bytes]:
    """Return the pax records for what ustar's fields can't hold, in a fixed order."""
    records = []
    if not fits(link):
        records.append(pax_record(b"linkpath", link.encode()))
    if not fits(name):
        records.append(pax_record(b"path", name.encode()))
    if size > LARGEST_OCTAL:
        records.append(pax_record(b"size", b"%d" % size))
    return records


def pax_record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE\\n`, where LENGTH counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def fits(text: str) -> bool:
    """Tell whether a name goes into a 100-byte ustar field as it is."""
    return text.isascii() and len(text) <= 100


def ustar(name: str, link: str, size: int, mode: int, kind: bytes) -> bytes:
    """Return one 512-byte ustar header."""
    head = b"".join(
        (
            name.encode("ascii", "replace")[:100].ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,
            b"%011o\0" % min(size, LARGEST_OCTAL),
            b"%011o\0" % MTIME,
            b" " * 8,
            kind,
            link.encode("ascii", "replace")[:100].ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"0000000\0" * 2,
            bytes(167),
        )
    )
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


@dataclass(frozen=True)
class Written:
    """A layer that was written: its diff_id (64 hex digits), its size in bytes, and the CRC-32 of every file."""

    diff_id: str
    size: int
    checksums: dict[str, int]


def write_layer(entries: Iterable[Entry], path: Path, advance: Callable[[int], None] = lambda size: None) -> Written:
    """Write a layer to a new file; `advance` hears of every piece that was written, in bytes.

    Reading, inflating and writing happen in this thread, hashing in a second one: both let go of the
    interpreter's lock, so that a layer of one big artifact keeps two cores busy.
    """
    checksums: dict[str, int] = {}
    size = 0
    with path.open("wb", buffering=0) as out, Hashing() as hashing:
        for piece in coalesced(layer_chunks(entries, checksums)):
            hashing.put(piece)
            write_all(out.fileno(), piece)
            size += len(piece)
            advance(len(piece))
    return Written(hashing.digest.hexdigest(), size, checksums)


def coalesced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to pieces of about a mebibyte."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


class Hashing:
    """A thread that hashes what it is given, a bounded number of pieces behind; done when the context ends."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.pieces: queue.Queue[bytes | None] = queue.Queue(QUEUED_PIECES)
        self.put = self.pieces.put
        self.thread = threading.Thread(target=self.work, name="layer-hash", daemon=True)

    def __enter__(self) -> Hashing:
        self.thread.start()
        return self

    def work(self) -> None:
        while (piece := self.pieces.get()) is not None:
            self.digest.update(piece)

    def __exit__(self, *error: object) -> None:
        self.pieces.put(None)
        self.thread.join()
