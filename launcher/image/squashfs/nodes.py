"""The image's merged tree as inodes: hard links share one, and each has its number before a byte is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from launcher.errors import ImageError, Problem
from launcher.image.base.tree import BaseEntry, BaseTree

LONGEST_NAME = 255
"""In bytes: Linux' NAME_MAX; the format itself bears 256 (squashfs_fs.h, SQUASHFS_NAME_LEN)."""
LONGEST_TARGET = 4095
"""In bytes: Linux' PATH_MAX without its end; kernels refuse longer ones when they read a squashfs."""
ROOT_MODE = 0o755


@dataclass(slots=True, eq=False)
class Stored:
    """Where a content lies in the file: blocks from `start` on, or a part of a fragment."""

    start: int = 0
    blocks: list[int] = field(default_factory=list)  # sizes as the format has them, a bit for "not compressed"
    fragment: int | None = None
    offset: int = 0


@dataclass(slots=True, eq=False)
class Node:
    """An inode. A file's content lies in layer `layer` from `offset` on; `place` is where the inode was written."""

    kind: Literal["dir", "file", "symlink"]
    mode: int
    target: bytes = b""
    layer: int = 0
    offset: int = 0
    size: int = 0
    links: int = 0
    number: int = 0
    place: int = 0
    stored: Stored | None = None
    children: dict[bytes, Node] = field(default_factory=dict)
    listing: tuple[int, int] = (0, 0)  # where a folder's listing begins in the directory table, and its size, in bytes
    index: list[tuple[int, int, bytes]] = field(default_factory=list)

    def sorted_children(self) -> list[tuple[bytes, Node]]:
        return sorted(self.children.items())


def root_of(tree: BaseTree) -> Node:
    """Return the root of a tree. Devices and pipes are left out: no runtime wants an image's.

    Raises ImageError that tells of every name and link that is too long for Linux.
    """
    root = Node("dir", ROOT_MODE)
    folders, files, problems = {"": root}, dict[tuple[int, int], Node](), list[Problem]()
    for path, entry in sorted(tree.entries.items()):
        if entry.kind == "other":
            continue
        parent, _, name = path.rpartition("/")
        node = node_of(entry, files)
        if entry.kind == "dir":
            folders[path] = node
        problems += too_long(path, os.fsencode(name), node)
        folders[parent].children[os.fsencode(name)] = node
    if problems:
        raise ImageError.of(problems)
    return numbered(root)


def node_of(entry: BaseEntry, files: dict[tuple[int, int], Node]) -> Node:
    """Return an entry's inode; two paths with one content in one place are hard links."""
    if entry.kind == "dir":
        return Node("dir", entry.mode)
    if entry.kind == "symlink":
        return Node("symlink", 0o777, os.fsencode(entry.target), links=1)
    place = (entry.layer, entry.offset)
    if place not in files:
        files[place] = Node("file", entry.mode, layer=entry.layer, offset=entry.offset, size=entry.size)
    files[place].links += 1
    return files[place]


def too_long(path: str, name: bytes, node: Node) -> Iterator[Problem]:
    if len(name) > LONGEST_NAME:
        yield Problem(message=f"/{path}: its name has {len(name)} bytes, and Linux bears {LONGEST_NAME}")
    if len(node.target) > LONGEST_TARGET:
        yield Problem(message=f"/{path}: links to {len(node.target)} bytes of text, and Linux bears {LONGEST_TARGET}")


def numbered(root: Node) -> Node:
    """Number the inodes in the order in which they are written, from 1 on, and count each folder's links."""
    count = 0
    for folder in folders_upwards(root):
        folder.links = 2 + sum(child.kind == "dir" for child in folder.children.values())
        for _, child in folder.sorted_children():
            if not child.number:
                count = child.number = count + 1
    root.number = count + 1
    return root


def folders_upwards(root: Node) -> Iterator[Node]:
    """Yield every folder, each after all that are in it."""
    found, left = list[Node](), [root]
    while left:
        folder = left.pop()
        found.append(folder)
        left += [child for _, child in folder.sorted_children() if child.kind == "dir"]
    yield from reversed(found)
