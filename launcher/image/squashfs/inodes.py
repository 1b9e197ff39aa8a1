"""Inodes and folder listings as bytes.

Source: the kernel's fs/squashfs/squashfs_fs.h and Documentation/filesystems/squashfs.rst. Numbers are
little-endian.
"""

from __future__ import annotations

import struct
from itertools import groupby

from launcher.image.squashfs.metadata import BLOCK, block_start
from launcher.image.squashfs.nodes import Node, Stored
from launcher.image.tar import MTIME

DIR, FILE, SYMLINK, LONG_DIR, LONG_FILE = 1, 2, 3, 8, 9
KINDS = {"dir": DIR, "file": FILE, "symlink": SYMLINK}
NONE = 0xFFFFFFFF
MOST_IN_HEADER = 256
LARGEST_SHORT = 0xFFFF
FARTHEST = 0x7FFF
SIZE_OF_DOTS = 3
"""What a listing's size is more than its bytes: readers make up `.` and `..`."""


def head(kind: int, node: Node) -> bytes:
    """Return what all inodes begin with: kind, mode, owner 0:0, time, number."""
    return struct.pack("<HHHHII", kind, node.mode, 0, 0, MTIME, node.number)


def inode(node: Node, parent: int) -> bytes:
    """Return an inode; `parent` is the number of the folder that a folder is in."""
    if node.kind == "dir":
        return dir_inode(node, parent)
    if node.kind == "symlink":
        return head(SYMLINK, node) + struct.pack("<II", node.links, len(node.target)) + node.target
    return file_inode(node, node.stored or Stored())


def file_inode(node: Node, stored: Stored) -> bytes:
    """Return a file's inode: the long form where it has hard links, or lies or reaches beyond 4 GiB."""
    fragment = NONE if stored.fragment is None else stored.fragment
    blocks = struct.pack(f"<{len(stored.blocks)}I", *stored.blocks)
    if node.links == 1 and stored.start <= NONE and node.size <= NONE:
        return head(FILE, node) + struct.pack("<IIII", stored.start, fragment, stored.offset, node.size) + blocks
    numbers = (stored.start, node.size, 0, node.links, fragment, stored.offset, NONE)
    return head(LONG_FILE, node) + struct.pack("<QQQIIII", *numbers) + blocks


def dir_inode(node: Node, parent: int) -> bytes:
    """Return a folder's inode: the long form, with an index, where its listing is more than one block."""
    position, size = node.listing
    block, offset = block_start(position), position % BLOCK
    size += SIZE_OF_DOTS
    if size <= LARGEST_SHORT and not node.index:
        return head(DIR, node) + struct.pack("<IIHHI", block, node.links, size, offset, parent)
    numbers = (node.links, size, block, parent, len(node.index), offset, NONE)
    index = b"".join(struct.pack("<III", at, start, len(name) - 1) + name for at, start, name in node.index)
    return head(LONG_DIR, node) + struct.pack("<IIIIHHI", *numbers) + index


def listing(folder: Node, position: int) -> bytes:
    """Return a folder's listing, which will begin at `position` of the directory table, and note its index.

    Readers of a big folder jump by the index: the first header in each metadata block, and the name behind it.
    """
    data, block = bytearray(), position // BLOCK
    for run in runs(folder):
        at = position + len(data)
        if at // BLOCK != block:
            block = at // BLOCK
            folder.index.append((len(data), block_start(at), run[0][0]))
        data += header(run)
    return bytes(data)


def header(run: list[tuple[bytes, Node]]) -> bytes:
    """Return one header and the entries below it, whose inodes lie in one block."""
    first = run[0][1]
    rows = [struct.pack("<III", len(run) - 1, block_start(first.place), first.number)]
    for name, child in run:
        numbers = (child.place % BLOCK, child.number - first.number, KINDS[child.kind], len(name) - 1)
        rows += [struct.pack("<HhHH", *numbers), name]
    return b"".join(rows)


def runs(folder: Node) -> list[list[tuple[bytes, Node]]]:
    """Cut a folder's entries, in order of name, where a new header is needed."""
    found: list[list[tuple[bytes, Node]]] = []
    for _, group in groupby(folder.sorted_children(), key=lambda pair: pair[1].place // BLOCK):
        run: list[tuple[bytes, Node]] = []
        for pair in group:
            if run and (len(run) == MOST_IN_HEADER or abs(pair[1].number - run[0][1].number) > FARTHEST):
                found.append(run)
                run = []
            run.append(pair)
        found.append(run)
    return found
