"""A squashfs read by other code than wrote it: strict about what kernels are strict about, and slow."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import zstandard

PLAIN = 1 << 24


class Super(NamedTuple):
    magic: int
    inodes: int
    mtime: int
    block: int
    fragments: int
    compressor: int
    log: int
    flags: int
    ids: int
    major: int
    minor: int
    root: int
    used: int
    id_table: int
    xattrs: int
    inode_table: int
    listing_table: int
    fragment_table: int
    export_table: int


@dataclass
class Read:
    """One inode."""

    kind: int
    mode: int
    mtime: int
    number: int
    links: int
    size: int
    content: bytes = b""
    listing: tuple[int, int, int] = (0, 0, 0)  # block, offset, size
    parent: int = 0
    index: tuple[tuple[int, int, bytes], ...] = ()


class Reader:
    """The tree of a squashfs in bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.head = Super(*struct.unpack_from("<IIIIIHHHHHHQQQQQQQQ", data))
        assert self.head.magic == 0x73717368 and (self.head.major, self.head.minor) == (4, 0)
        assert 1 << self.head.log == self.head.block
        self.inodes = self.blocks(self.head.inode_table, self.head.listing_table)
        end = self.indexed(self.head.fragment_table, self.head.fragments * 16)[1]
        self.listings = self.blocks(self.head.listing_table, end)
        rows = self.indexed(self.head.fragment_table, self.head.fragments * 16)[0]
        self.fragments = [struct.unpack_from("<QII", rows, at)[:2] for at in range(0, len(rows), 16)]
        self.exports = struct.unpack(
            f"<{self.head.inodes}Q", self.indexed(self.head.export_table, self.head.inodes * 8)[0]
        )
        assert self.indexed(self.head.id_table, 4)[0] == bytes(4)
        assert self.head.id_table + 8 == self.head.used  # kernels want the table to end where the file system does

    def blocks(self, start: int, end: int) -> dict[int, bytes]:
        """Read metadata blocks, by where they begin in their table."""
        found, at = dict[int, bytes](), start
        while at < end:
            size = struct.unpack_from("<H", self.data, at)[0] & 0x7FFF
            found[at - start] = self.data[at + 2 : at + 2 + size]
            at += 2 + size
        assert at == end
        return found

    def indexed(self, index: int, size: int) -> tuple[bytes, int]:
        """Read a table through the index of its blocks; return it and where its first block begins."""
        count = -(-size // 8192)
        starts = struct.unpack_from(f"<{count}Q", self.data, index)
        data = b"".join(
            self.data[at + 2 : at + 2 + (struct.unpack_from("<H", self.data, at)[0] & 0x7FFF)] for at in starts
        )
        assert len(data) == size
        return data, starts[0] if starts else index

    def run(self, blocks: dict[int, bytes], block: int, offset: int) -> bytes:
        """Return a table's bytes from a place on."""
        starts = sorted(start for start in blocks if start >= block)
        assert starts[0] == block
        return b"".join(blocks[start] for start in starts)[offset:]

    def inode(self, reference: int) -> Read:
        raw = self.run(self.inodes, reference >> 16, reference & 0xFFFF)
        kind, mode, user, group, mtime, number = struct.unpack_from("<HHHHII", raw)
        assert (user, group) == (0, 0)
        body = raw[16:]
        read = Read(kind, mode, mtime, number, 1, 0)
        if kind == 1:
            block, read.links, size, offset, read.parent = struct.unpack_from("<IIHHI", body)
            read.listing = (block, offset, size - 3)
        elif kind == 8:
            read.links, size, block, read.parent, count, offset, _ = struct.unpack_from("<IIIIHHI", body)
            read.listing, read.index = (block, offset, size - 3), tuple(self.index(body[24:], count))
        elif kind == 3:
            read.links, read.size = struct.unpack_from("<II", body)
            read.content = body[8 : 8 + read.size]
        elif kind == 2:
            start, fragment, offset, read.size = struct.unpack_from("<IIII", body)
            read.content = self.content(body[16:], start, fragment, offset, read.size)
        else:
            assert kind == 9
            start, read.size, sparse, read.links, fragment, offset, _ = struct.unpack_from("<QQQIIII", body)
            assert sparse == 0
            read.content = self.content(body[40:], start, fragment, offset, read.size)
        return read

    def index(self, raw: bytes, count: int) -> Iterator[tuple[int, int, bytes]]:
        for _ in range(count):
            at, start, length = struct.unpack_from("<III", raw)
            yield at, start, raw[12 : 13 + length]
            raw = raw[13 + length :]

    def content(self, sizes: bytes, start: int, fragment: int, offset: int, size: int) -> bytes:
        whole = size // self.head.block if fragment != 0xFFFFFFFF else -(-size // self.head.block)
        data = b""
        for stored in struct.unpack_from(f"<{whole}I", sizes):
            data += self.unpacked(start, stored)
            start += stored & ~PLAIN
        if fragment != 0xFFFFFFFF:
            data += self.unpacked(*self.fragments[fragment])[offset : offset + size % self.head.block]
        assert len(data) == size
        return data

    def unpacked(self, start: int, stored: int) -> bytes:
        raw = self.data[start : start + (stored & ~PLAIN)]
        if stored & PLAIN:
            return raw
        return zlib.decompress(raw) if self.head.compressor == 1 else zstandard.ZstdDecompressor().decompress(raw)

    def rows(self, folder: Read) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield (name, reference, number, kind) of a folder's entries."""
        block, offset, size = folder.listing
        if not size:
            return
        raw, at = self.run(self.listings, block, offset)[:size], 0
        while at < size:
            count, start, base = struct.unpack_from("<III", raw, at)
            at += 12
            assert count < 256
            for _ in range(count + 1):
                place, difference, kind, length = struct.unpack_from("<HhHH", raw, at)
                yield raw[at + 8 : at + 9 + length], start << 16 | place, base + difference, kind
                at += 9 + length
        assert at == size

    def tree(self) -> dict[str, Read]:
        """Return every path with its inode; the root is the empty one. Raises AssertionError where a rule is broken."""
        root = self.inode(self.head.root)
        found, left = {"": root}, [("", root)]
        while left:
            path, folder = left.pop()
            rows = list(self.rows(folder))
            assert [row[0] for row in rows] == sorted({row[0] for row in rows})
            for name, reference, number, kind in rows:
                child = self.inode(reference)
                assert (child.number, {8: 1, 9: 2}.get(child.kind, child.kind)) == (number, kind)
                assert self.exports[number - 1] == reference
                assert kind != 1 or child.parent == folder.number
                below = f"{path}/{name.decode()}".lstrip("/")
                found[below] = child
                if kind == 1:
                    left.append((below, child))
        assert len({read.number for read in found.values()}) == self.head.inodes
        return found
