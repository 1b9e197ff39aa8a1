"""A disk that is nearly full takes a part of a write and doesn't call that an error: nobody may think it whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import resource
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.fetch.download import cached
from launcher.fetch.partial import gather
from launcher.image.base.layers import write_unpacked
from launcher.image.deb.unpack import write
from launcher.image.oci import Layer
from launcher.image.tar import write_layer
from launcher.image.tree import Bytes, Entry
from launcher.lock.model import Artifact
from launcher.progress import SilentTask
from launcher.registry.packing import compress, compressor
from launcher.target.untar import unpack

DATA = random.Random(0).randbytes(3 << 19)
TAKEN_BYTES = 5 << 18  # in the midst of the second mebibyte, which is the last write
SMALL = DATA[:10_000]


class OneSource:
    name = "one"

    @contextlib.contextmanager
    def open_from(self, artifact: Artifact, offset: int) -> Iterator[io.BytesIO]:
        yield io.BytesIO(DATA[offset:])


def fetched(folder: Path) -> None:
    artifact = Artifact(name="a", version="1", filename="a", size=len(DATA), sha256=sha256_bytes(DATA))
    gather(OneSource(), artifact, folder / "part", SilentTask())


def assembled(folder: Path) -> None:
    write_layer([Entry("a", "file", 0o644, Bytes(DATA))], folder / "layer")


def decompressed(folder: Path) -> None:
    write_unpacked(folder / "data", folder / "layer", None)


def deb(folder: Path) -> None:
    write(folder / "deb.tar", iter([DATA[: 1 << 20], DATA[1 << 20 :]]))


def packed(folder: Path) -> None:
    digest, path = sha256_bytes(DATA), folder / "data"
    layer = Layer(rank=0, name="data", diff_id=digest, size=len(DATA), listing=digest, path=path)
    compress(layer, compressor("zstd", layer.size), folder / "packed", lambda size: None)


def laid_out(folder: Path) -> None:
    (folder / "tree").mkdir()
    unpack(folder / "small.tar", folder / "tree")


@pytest.mark.parametrize(
    ("work", "taken"),
    [
        (fetched, TAKEN_BYTES),
        (assembled, len(DATA) + 1000),  # a header goes before the data, and 1024 bytes of the archive's end behind
        (decompressed, TAKEN_BYTES),
        (deb, TAKEN_BYTES),
        (packed, len(DATA) - 10),  # what the compressor held back until the end
        (laid_out, len(SMALL) - 1),
    ],
)
def test_what_was_taken_in_part_is_an_error(work: Callable[[Path], None], taken: int, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    with tarfile.open(tmp_path / "small.tar", "w") as tar:
        (info := tarfile.TarInfo("a")).size = len(SMALL)
        tar.addfile(info, io.BytesIO(SMALL))
    with limited(taken), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        work(tmp_path)


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: like a full disk, the kernel takes what fits first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_an_older_launcher_cut_short_is_fetched_again(cache: Cache) -> None:
    artifact = Artifact(name="a", version="1", filename="a", size=len(DATA), sha256=sha256_bytes(DATA))
    with cache.scratch() as scratch:
        (scratch / "part").write_bytes(DATA[:-1])
        path = cache.adopt("artifacts", artifact.sha256, scratch / "part")
    assert cached(cache, artifact) is None
    assert not path.exists()
