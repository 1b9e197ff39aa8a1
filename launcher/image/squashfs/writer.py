"""Write a squashfs 4.0: contents first, as they come out of the layers, then what tells of them, the superblock last.

    superblock | blocks and fragments | inodes | folder listings | fragment table | export table | id table

Source: the kernel's fs/squashfs/squashfs_fs.h, super.c and Documentation/filesystems/squashfs.rst.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from launcher.cache import Cache
from launcher.image.base.tree import read_tree
from launcher.image.oci import Image
from launcher.image.squashfs.blocks import IDS, Blocks, Compression
from launcher.image.squashfs.contents import BLOCK, Contents
from launcher.image.squashfs.inodes import inode, listing
from launcher.image.squashfs.metadata import Table, reference, write_indexed
from launcher.image.squashfs.nodes import Node, folders_upwards, root_of
from launcher.image.tar import MTIME
from launcher.progress import Progress

MAGIC = 0x73717368
SUPERBLOCK = 96
PADDED_TO = 4096
NOTHING = 0xFFFFFFFFFFFFFFFF
INODES_PLAIN, DATA_PLAIN, FRAGMENTS_PLAIN = 0x1, 0x2, 0x8
DUPLICATES, EXPORTABLE, XATTRS_PLAIN, NO_XATTRS, IDS_PLAIN = 0x40, 0x80, 0x100, 0x200, 0x800
ALWAYS = INODES_PLAIN | DUPLICATES | EXPORTABLE | XATTRS_PLAIN | NO_XATTRS | IDS_PLAIN
ROOT_USER = struct.pack("<I", 0)


def write_squashfs(
    image: Image, out: BinaryIO, cache: Cache, progress: Progress, *, compression: Compression = "none", workers: int
) -> int:
    """Write an image's merged tree from the stream's position on; return the size in bytes, padding included.

    `out` must be seekable. Uncompressed, the bytes depend on the image alone. Raises IntegrityError when a layer was
    damaged in the cache, ImageError when a name is longer than Linux bears.
    """
    base = out.tell()
    root = root_of(read_tree([x.path for x in image.layers], cache, [x.diff_id for x in image.layers]))
    out.write(bytes(SUPERBLOCK))
    with (
        progress.task("writing", sum(layer.size for layer in image.layers)) as task,
        Blocks(out, base, compression, workers) as blocks,
    ):
        contents = Contents(blocks, image.layers)
        contents.store(root, task.advance)
    places = write_tables(out, base, root, contents.fragments)
    used = out.tell() - base
    out.write(bytes(-used % PADDED_TO))
    end = out.tell()
    out.seek(base)
    out.write(superblock(root, len(contents.fragments), used, places, compression))
    out.seek(end)
    return end - base


def write_tables(out: BinaryIO, base: int, root: Node, fragments: list[bytes]) -> tuple[int, int, int, int, int]:
    """Write everything behind the contents; return the places of the five tables, as the superblock has them."""
    inodes, listings, exports = lay_out(root)
    inode_place = out.tell() - base
    inodes.write(out)
    listing_place = out.tell() - base
    listings.write(out)
    fragment_place = write_indexed(out, base, fragments)
    export_place = write_indexed(out, base, exports)
    id_place = write_indexed(out, base, [ROOT_USER])
    return id_place, inode_place, listing_place, fragment_place, export_place


def lay_out(root: Node) -> tuple[Table, Table, list[bytes]]:
    """Place every inode and listing, folders after what is in them; return the tables of both, and of references."""
    inodes, listings, exports = Table(), Table(), list[bytes]()

    def put(node: Node, parent: int) -> None:
        node.place = inodes.add(inode(node, parent))
        exports.append(struct.pack("<Q", reference(node.place)))

    for folder in folders_upwards(root):
        for _, child in folder.sorted_children():
            if child.number == len(exports) + 1:  # a file with several names is placed by its first
                put(child, folder.number)
        position = len(listings.data)
        data = listing(folder, position)
        folder.listing = (listings.add(data), len(data))
    put(root, root.number + 1)  # as mksquashfs has it: the root is in no folder of this file system
    return inodes, listings, exports


def superblock(
    root: Node, fragments: int, used: int, places: tuple[int, int, int, int, int], compression: Compression
) -> bytes:
    plain = DATA_PLAIN | FRAGMENTS_PLAIN if compression == "none" else 0
    ids, inodes, listings, fragment_table, exports = places
    return struct.pack(
        "<IIIIIHHHHHHQQQQQQQQ",
        MAGIC,
        root.number,
        MTIME,
        BLOCK,
        fragments,
        IDS[compression],
        BLOCK.bit_length() - 1,
        ALWAYS | plain,
        1,
        4,
        0,
        reference(root.place),
        used,
        ids,
        NOTHING,
        inodes,
        listings,
        fragment_table,
        exports,
    )
