"""The contents of files: big ones in blocks of their own, small ones together in fragments, equal ones once."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from launcher.image.oci import Layer
from launcher.image.squashfs.blocks import Blocks
from launcher.image.squashfs.nodes import Node, Stored, folders_upwards
from launcher.image.squashfs.reading import LayerReader
from launcher.image.tree import Slice

BLOCK = 1 << 17
"""128 KiB, what mksquashfs takes too: what is read for one page, and what one fragment holds."""


class Contents:
    """Takes the files of an image, layer by layer; afterwards each node knows where its content is stored."""

    def __init__(self, blocks: Blocks, layers: Sequence[Layer]) -> None:
        self.blocks, self.layers = blocks, layers
        self.sizes: Counter[int] = Counter()
        self.known: dict[tuple[int, bytes], Stored] = {}
        self.fragment = bytearray()
        self.fragments: list[bytes] = []  # rows of the fragment table
        self.made = 0

    def store(self, root: Node, advance: Callable[[int], None]) -> None:
        """Read every layer once, in order, and write what of it is still to be seen in the image."""
        files = sorted(files_of(root), key=lambda node: (node.layer, node.offset))
        self.sizes.update(node.size for node in files)
        by_layer = {number: list(group) for number, group in groupby(files, key=lambda node: node.layer)}
        for number, layer in enumerate(self.layers):
            with LayerReader(layer, advance) as reader:
                for node in by_layer.get(number, []):
                    reader.skip_to(node.offset)
                    self.place(node, reader)
        self.end_fragment()

    def place(self, node: Node, reader: LayerReader) -> None:
        if node.size < BLOCK:
            self.place_small(node, reader.exactly(node.size))
        elif self.sizes[node.size] == 1:
            node.stored = self.place_big(node.size, reader)
        else:
            key = (node.size, self.digest_of(node))
            if key not in self.known:
                self.known[key] = self.place_big(node.size, reader)
            node.stored = self.known[key]

    def digest_of(self, node: Node) -> bytes:
        """Hash a file before it comes by, because another one of the same size may be the same."""
        digest = hashlib.blake2b(digest_size=32)
        for chunk in Slice(self.layers[node.layer].path, node.offset, node.size).chunks():
            digest.update(chunk)
        return digest.digest()

    def place_big(self, size: int, reader: LayerReader) -> Stored:
        """Write a file's blocks; its last one may be short."""
        stored = Stored()
        for number, data in enumerate(reader.pieces(size, BLOCK)):
            self.blocks.add(data, at_start(stored) if number == 0 else at_end(stored))
        return stored

    def place_small(self, node: Node, data: bytes) -> None:
        """Put a file into the open fragment, unless its content is in one already."""
        if not data:
            node.stored = Stored()
            return
        key = (node.size, hashlib.blake2b(data, digest_size=32).digest() if self.sizes[node.size] > 1 else b"")
        if key not in self.known:
            if len(self.fragment) + len(data) > BLOCK:
                self.end_fragment()
            self.known[key] = Stored(fragment=self.made, offset=len(self.fragment))
            self.fragment += data
        node.stored = self.known[key]

    def end_fragment(self) -> None:
        if self.fragment:
            row = lambda place, size: self.fragments.append(struct.pack("<QII", place, size, 0))  # noqa: E731
            self.blocks.add(bytes(self.fragment), row)
            self.fragment.clear()
            self.made += 1


def at_start(stored: Stored) -> Callable[[int, int], None]:
    def told(place: int, size: int) -> None:
        stored.start = place
        stored.blocks.append(size)

    return told


def at_end(stored: Stored) -> Callable[[int, int], None]:
    return lambda place, size: stored.blocks.append(size)


def files_of(root: Node) -> Iterable[Node]:
    """Yield every file once, however many names it has."""
    found = {id(child): child for folder in folders_upwards(root) for child in folder.children.values()}
    return (node for node in found.values() if node.kind == "file")
