"""/etc/ld.so.cache of a base image: read back, so that added libraries are listed beside what it lists already."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"glibc-ld.so.cache1.1"
OLD_MAGIC = b"ld.so-1.7.0\0"
OLD_HEADER = struct.Struct("<11sxI")
OLD_ENTRY_BYTES = 12
HEADER = struct.Struct("<20s2IB3x4I")
ENTRY = struct.Struct("<i3IQ")
MOST_LIBRARIES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One library of the cache. `flags` tell its architecture (glibc's sysdeps/generic/ldconfig.h)."""

    soname: str
    path: str
    flags: int


def read_cache(data: bytes) -> list[Listed]:
    """Return what a cache lists, in its order; nothing of one that can't be read: the loader does the same.

    Libraries for certain processors (`glibc-hwcaps`) are left out: the loader then takes those for all.
    Source: glibc's sysdeps/generic/dl-cache.h and elf/cache.c.
    """
    try:
        data = data[new_part(data) :]
        magic, count, *_ = HEADER.unpack_from(data)
        if magic != MAGIC or count > MOST_LIBRARIES:
            return []
        rows = [ENTRY.unpack_from(data, HEADER.size + number * ENTRY.size) for number in range(count)]
        return [
            Listed(soname=text_at(data, key), path=text_at(data, value), flags=flags)
            for flags, key, value, _, hwcap in rows
            if hwcap == 0
        ]
    except (struct.error, ValueError):
        return []


def new_part(data: bytes) -> int:
    """Return where the new format begins: an old one may come first (ldconfig -c compat), padded to 8 bytes."""
    if not data.startswith(OLD_MAGIC[:11]):
        return 0
    _, count = OLD_HEADER.unpack_from(data)
    end = OLD_HEADER.size + count * OLD_ENTRY_BYTES
    return int(end + -end % 8)


def text_at(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("utf-8", "surrogateescape")
