"""The little of an ELF file that the dynamic linker's cache needs: which machine, which name (System V gABI)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from launcher.image.tree import Bytes, Content, Slice

HEADER = struct.Struct("<16s2HI3QI6H")
SEGMENT = struct.Struct("<2I6Q")
DYNAMIC = struct.Struct("<qQ")
LITTLE_64 = b"\x7fELF\x02\x01"
PT_LOAD, PT_DYNAMIC = 1, 2
DT_STRTAB, DT_SONAME = 5, 14
LONGEST_NAME = 4096
MOST_ENTRIES = 4096


@dataclass(frozen=True)
class Library:
    """A shared object: `machine` is e_machine, `soname` may be ""."""

    machine: int
    soname: str


def read_library(content: Content) -> Library | None:
    """Read a 64-bit little-endian shared object; None for anything else, damaged files included."""
    try:
        with_header = read_at(content, 0, HEADER.size)
        if not with_header.startswith(LITTLE_64):
            return None
        header = HEADER.unpack(with_header)
        segments = read_segments(content, header[5], header[10])
        return Library(header[2], read_soname(content, segments))
    except (struct.error, ValueError):
        return None


def read_at(content: Content, offset: int, size: int) -> bytes:
    """Read a piece from the middle of a content."""
    if offset > content.size:
        return b""
    if isinstance(content, Bytes):
        return content.data[offset : offset + size]
    if isinstance(content, Slice):
        with content.file.open("rb", buffering=0) as stream:
            stream.seek(content.offset + offset)
            return stream.read(max(0, min(size, content.size - offset)))
    return b"".join(content.chunks())[offset : offset + size]


def read_segments(content: Content, offset: int, count: int) -> list[tuple[int, int, int, int]]:
    """Return (type, offset in the file, address, size in the file) of each segment."""
    table = read_at(content, offset, SEGMENT.size * count)
    return [(kind, at, address, size) for kind, _, at, address, _, size, _, _ in SEGMENT.iter_unpack(table)]


def read_soname(content: Content, segments: list[tuple[int, int, int, int]]) -> str:
    """Return DT_SONAME, or ""."""
    dynamic = next((segment for segment in segments if segment[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return ""
    size = min(dynamic[3], MOST_ENTRIES * DYNAMIC.size)
    table = read_at(content, dynamic[1], size - size % DYNAMIC.size)
    tags = dict(reversed(list(DYNAMIC.iter_unpack(table))))
    if DT_SONAME not in tags or DT_STRTAB not in tags:
        return ""
    name = read_at(content, file_offset(segments, tags[DT_STRTAB]) + tags[DT_SONAME], LONGEST_NAME)
    return name.split(b"\0", 1)[0].decode("ascii")


def file_offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    """Find where in the file an address lies."""
    for kind, offset, start, size in segments:
        if kind == PT_LOAD and start <= address < start + size:
            return address - start + offset
    raise ValueError("an address lies in no segment")
