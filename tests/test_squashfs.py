"""The squashfs writer: what an own strict reader makes of it, its edges, and its bytes."""

from __future__ import annotations

import hashlib
import io
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import ImageError, IntegrityError
from launcher.image.oci import Image
from launcher.image.squashfs import Compression, write_squashfs
from launcher.image.squashfs.contents import BLOCK
from launcher.image.squashfs.inodes import file_inode
from launcher.image.squashfs.nodes import Node, Stored
from launcher.image.tar import MTIME
from launcher.image.tree import Bytes, Entry
from launcher.progress import SILENT
from tests.bases import device, hard_link, layer
from tests.rootfs import image
from tests.squashfs_reader import Read, Reader

NOISE = random.Random(1).randbytes


def entries(*found: Entry) -> dict[str, Entry]:
    return {entry.path: entry for entry in found}


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, "file", mode, Bytes(data))


def written(image: Image, cache: Cache, compression: Compression = "none", workers: int = 2) -> bytes:
    out = io.BytesIO()
    size = write_squashfs(image, out, cache, SILENT, compression=compression, workers=workers)
    data = out.getvalue()
    assert size == len(data) and size % 4096 == 0
    return data


def read(image: Image, cache: Cache) -> dict[str, Read]:
    return Reader(written(image, cache)).tree()


BIG = NOISE(3 * BLOCK + 17)
LOWER = entries(
    Entry("a", "dir", 0o1777),
    file("a/big", BIG, 0o755),
    file("a/empty", b""),
    Entry("a/link", "symlink", 0o777, target="../ü→"),
    Entry("a/other", "hardlink", 0o755, target="a/big"),
    file("a/same", BIG),
    file("a/small", b"small"),
    file("a/whole", bytes(BLOCK)),
    file("a/ünï", b"small", 0o4711),
    Entry("b", "dir", 0o700),
)
UPPER = entries(Entry("a", "dir", 0o755), file("a/small", b"above"), Entry("z", "dir", 0o755), file("z/s", b"small"))


@pytest.fixture
def tiny(cache: Cache) -> Image:
    return image(cache, [LOWER, UPPER])


# The file system of `tiny`. It changes only with WRITER (launcher/image/sif.py), and then the changelog says so.
GOLDEN = "60f92ef0a541612c993c8b8a64d53883b98bbf3c33d47d19642aecb4622e0ddf"


def test_the_bytes_are_the_golden_ones(tiny: Image, cache: Cache) -> None:
    assert hashlib.sha256(written(tiny, cache)).hexdigest() == GOLDEN


def test_a_strict_reader_finds_the_merged_tree(tiny: Image, cache: Cache) -> None:
    found = read(tiny, cache)
    assert set(found) == {"", *LOWER, *UPPER}
    assert found["a/big"].content == found["a/same"].content == BIG
    assert found["a/small"].content == b"above"
    assert found["z/s"].content == found["a/ünï"].content == b"small"
    assert found["a/empty"].content == b""
    assert found["a/whole"].content == bytes(BLOCK)
    assert found["a/link"].content.decode() == "../ü→"
    assert (found["a"].mode, found["b"].mode, found["a/ünï"].mode, found["a/big"].mode) == (0o755, 0o700, 0o4711, 0o755)
    assert {inode.mtime for inode in found.values()} == {MTIME}


def test_hard_links_are_one_inode_and_equal_files_are_stored_once(tiny: Image, cache: Cache) -> None:
    data = written(tiny, cache)
    found = Reader(data).tree()
    assert found["a/big"].number == found["a/other"].number
    assert (found["a/big"].links, found["a/same"].links) == (2, 1)
    assert found["a/same"].number != found["a/big"].number
    assert data.count(BIG[:64]) == 1
    assert data.count(b"small") == 2, "in the fragment, and as a name"


def test_folders_count_their_links(tiny: Image, cache: Cache) -> None:
    found = read(tiny, cache)
    assert (found[""].links, found["a"].links) == (2 + 3, 2)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_data_reads_back(compression: Compression, tiny: Image, cache: Cache) -> None:
    plain, packed = written(tiny, cache), written(tiny, cache, compression)
    assert len(packed) < len(plain)
    expected, found = Reader(plain).tree(), Reader(packed).tree()
    assert {path: one.content for path, one in expected.items()} == {path: one.content for path, one in found.items()}
    assert [written(tiny, cache, compression, workers) for workers in (1, 5)] == [packed, packed]


def test_the_layers_cut_changes_nothing_but_the_order(cache: Cache) -> None:
    """What is seen is the merged tree, wherever a file lies."""
    one = image(cache, [{**LOWER, **UPPER}])
    two = image(cache, [LOWER, UPPER])
    ours, theirs = read(one, cache), read(two, cache)
    assert {path: (x.mode, x.content) for path, x in ours.items()} == {
        path: (x.mode, x.content) for path, x in theirs.items()
    }


def foreign(cache: Cache, tiny: Image, *tars: bytes) -> Image:
    """Return an image of layers that others made."""
    layers = []
    for number, tar in enumerate(tars):
        with cache.scratch() as scratch:
            (scratch / "layer").write_bytes(tar)
            digest = hashlib.sha256(tar).hexdigest()
            path = cache.adopt("blobs", digest, scratch / "layer")
        layers.append(replace(tiny.layers[0], rank=number, diff_id=digest, size=len(tar), path=path))
    return replace(tiny, layers=tuple(layers))


def test_a_bases_whiteouts_links_and_devices(tiny: Image, cache: Cache) -> None:
    below = layer({"d": None, "d/gone": b"1", "d/kept": b"2", "o": None, "o/hidden": b"3", "null": device("null")})
    above = layer({"d/.wh.gone": b"", "o/.wh..wh..opq": b"", "o/new": b"4", "l": hard_link("l", "o/new")})
    found = read(foreign(cache, tiny, below, above), cache)
    assert set(found) == {"", "d", "d/kept", "o", "o/new", "l"}
    assert (found["l"].links, found["l"].content) == (2, b"4")


def names(count: int) -> Iterator[Entry]:
    yield Entry("many", "dir", 0o755)
    for number in range(count):
        yield file(f"many/{number:06}-{'x' * (number % 40)}", b"%d" % (number % 7))


def test_a_huge_folder_has_an_index_that_leads_to_its_headers(cache: Cache) -> None:
    """More than 65,536 entries, whose listing is longer than the short inode can say."""
    made = image(cache, [entries(*names(66_000))])
    reader = Reader(written(made, cache))
    [(_, reference, _, _)] = reader.rows(reader.inode(reader.head.root))
    many = reader.inode(reference)
    assert many.kind == 8
    rows = list(reader.rows(many))
    assert len(rows) == 66_000
    block, offset, size = many.listing
    raw = reader.run(reader.listings, block, offset)[:size]
    assert len(many.index) > 200
    for at, start, name in many.index:
        _, place, _ = struct.unpack_from("<III", raw, at)
        assert place in reader.inodes
        assert reader.listings[start][(offset + at) % 8192 :][:12] == (raw[at : at + 12])[: 8192 - (offset + at) % 8192]
        assert raw[at + 20 : at + 20 + len(name)] == name


def test_deep_and_empty_trees(cache: Cache) -> None:
    deep = "/".join(["d"] * 900)
    assert len(read(image(cache, [entries(file(f"{deep}/f", b"deep"))]), cache)) == 902
    assert set(read(image(cache, []), cache)) == {""}


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128])
def test_names_that_linux_does_not_bear_are_refused(name: str, cache: Cache) -> None:
    made = image(cache, [entries(file(name, b""), Entry("l", "symlink", 0o777, target="y" * 4096))])
    with pytest.raises(ImageError) as caught:
        written(made, cache)
    assert [str(problem).partition(": ")[2] for problem in caught.value.problems] == [
        "links to 4096 bytes of text, and Linux bears 4095",
        "its name has 256 bytes, and Linux bears 255",
    ]
    assert len(read(image(cache, [entries(file("x" * 255, b""))]), cache)) == 2


@pytest.mark.parametrize(
    ("node", "stored", "kind"),
    [
        (Node("file", 0o644, size=(1 << 32) - 1, links=1), Stored(start=(1 << 32) - 1), 2),
        (Node("file", 0o644, size=1 << 32, links=1), Stored(), 9),
        (Node("file", 0o644, size=1, links=1), Stored(start=1 << 32), 9),
        (Node("file", 0o644, size=1, links=2), Stored(), 9),
    ],
)
def test_files_beyond_four_gibibytes_get_the_long_form(node: Node, stored: Stored, kind: int) -> None:
    assert struct.unpack_from("<H", file_inode(node, stored))[0] == kind


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_damaged_layer_is_noticed_and_removed(where: str, tiny: Image, cache: Cache) -> None:
    victim: Path = tiny.layers[0].path
    data = bytearray(victim.read_bytes())
    if where == "middle":
        data[len(data) // 2] ^= 1
    victim.write_bytes(data if where == "middle" else data[:-512])
    with pytest.raises(IntegrityError, match="was damaged in the cache"):
        written(tiny, cache)
    assert not victim.exists()
