"""Metadata blocks: 8 KiB pieces with a two-byte header, never compressed here, so that every place can be computed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

BLOCK = 8192
UNCOMPRESSED = 0x8000


class Table:
    """Bytes of a table; a reference to a position in it is (start of its block in the table) << 16 | offset in it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, data: bytes) -> int:
        """Append; return the position at which it begins, counted without headers."""
        position = len(self.data)
        self.data += data
        return position

    def write(self, out: BinaryIO) -> list[int]:
        """Write the blocks; return where each of them begins in the file."""
        places = []
        for at in range(0, len(self.data), BLOCK):
            places.append(out.tell())
            piece = self.data[at : at + BLOCK]
            out.write(struct.pack("<H", len(piece) | UNCOMPRESSED))
            out.write(piece)
        return places


def block_start(position: int) -> int:
    """Return where the metadata block of a position begins, with the headers before it."""
    return position // BLOCK * (BLOCK + 2)


def reference(position: int) -> int:
    return block_start(position) << 16 | position % BLOCK


def write_indexed(out: BinaryIO, base: int, rows: Sequence[bytes]) -> int:
    """Write a table that is found through an index of its blocks; return where the index begins.

    Places count from `base`, which is where the file system begins in the file.
    """
    table = Table()
    for row in rows:
        table.add(row)
    places = table.write(out)
    index = out.tell() - base
    out.write(struct.pack(f"<{len(places)}Q", *(place - base for place in places)))
    return index
