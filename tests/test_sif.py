"""SIF files: the container around the squashfs, what the cache keeps, what surroundings don't change, the command."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.cli.files import chosen
from launcher.errors import ImageError, UsageError
from launcher.image.oci import Image
from launcher.image.sif import sif, squashfs, write_output
from launcher.progress import SILENT
from tests.rootfs import image
from tests.squashfs_reader import Reader
from tests.test_squashfs import GOLDEN as GOLDEN_SQUASHFS
from tests.test_squashfs import LOWER, UPPER

GOLDEN = "13758c80358a7a0e7cbae7cb62c472c1eb2231a9451c0bdf6b7472588cc24911"
"""Of the SIF of the same image; see there."""


@pytest.fixture
def tiny(cache: Cache) -> Image:
    return image(cache, [LOWER, UPPER])


def test_a_sif_is_a_header_a_descriptor_and_the_squashfs(tiny: Image, cache: Cache) -> None:
    data = sif(tiny, cache).read_bytes()
    inner = squashfs(tiny, cache).read_bytes()
    assert hashlib.sha256(inner).hexdigest() == GOLDEN_SQUASHFS
    assert data[32768:] == inner
    launch, magic, version, code, uuid, *numbers = struct.unpack_from("<32s10s3s3s16s8q", data)
    assert (launch.rstrip(b"\0"), magic) == (b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC\0")
    assert (version, code, uuid) == (b"01\0", b"02\0", bytes(16))
    assert numbers == [0, 0, 47, 48, 4096, 48 * 585, 32176, len(data) - 32176]
    kind, used, number, group, link, at, size, padded, *rest = struct.unpack_from("<i?IIIqqqqqqq", data, 4096)
    assert (kind, used, number, group, link, at, size) == (0x4004, True, 1, 0xF0000001, 0, 32768, len(inner))
    assert padded == size + 32768 - 32176
    assert rest == [0, 0, 0, 0]
    assert struct.unpack_from("<ii3s", data, 4096 + 585 - 384) == (1, 2, b"02\0")
    assert not any(data[4096 + 585 : 32768])
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_arm64_has_its_own_code_and_others_have_none(tiny: Image, cache: Cache) -> None:
    arm = replace(tiny, id="1" * 64, config=tiny.config.replace(b'"amd64"', b'"arm64"'))
    assert sif(arm, cache).read_bytes()[45:48] == b"04\0"
    other = replace(tiny, id="2" * 64, config=tiny.config.replace(b'"amd64"', b'"riscv64"'))
    with pytest.raises(ImageError, match="no SIF can be made for riscv64"):
        sif(other, cache)
    assert Reader(squashfs(other, cache).read_bytes()).tree()


def test_the_cache_keeps_one_and_makes_it_anew_when_it_is_damaged(tiny: Image, cache: Cache) -> None:
    first = sif(tiny, cache)
    before = first.stat()
    assert sif(tiny, cache) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    data = bytearray(first.read_bytes())
    data[-5000] ^= 1
    first.write_bytes(data)
    assert hashlib.sha256(sif(tiny, cache).read_bytes()).hexdigest() == GOLDEN
    first.unlink()
    assert sif(tiny, cache) == first


def test_two_at_once_agree(tiny: Image, cache: Cache) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(sif(tiny, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


SURROUNDINGS: dict[str, dict[str, str]] = {
    "plain": {},
    "tokyo": {"TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8"},
    "c-locale": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "hash-seed": {"PYTHONHASHSEED": "1"},
    "epoch": {"SOURCE_DATE_EPOCH": "1700000000"},
    "umask": {"UMASK": "077", "USER": "somebody", "HOME": "/nonexistent"},
}
WRITE = """
import sys
from pathlib import Path
from launcher.cache import Cache
from launcher.image import sif
from launcher.progress import SILENT
from tests.rootfs import image
from tests.test_squashfs import LOWER, UPPER
sif.WORKERS = int(sys.argv[2])
cache = Cache(Path(sys.argv[1]))
print(sif.write_output(image(cache, [LOWER, UPPER]), "sif", Path("x.sif"), cache, SILENT))
"""


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_change_nothing(name: str, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), **SURROUNDINGS[name]}
    (folder := tmp_path / "else where").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "cache"), str(len(name))],
        env=env,
        cwd=folder,
        umask=int(env.get("UMASK", "022"), 8),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == GOLDEN == hashlib.sha256((folder / "x.sif").read_bytes()).hexdigest()


def test_a_file_is_written_whole_or_not_at_all(tiny: Image, cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.sif"
    out.parent.mkdir()
    out.write_bytes(b"before")
    damaged = replace(tiny, layers=tuple(replace(x, diff_id="0" * 64) for x in tiny.layers))
    with pytest.raises(Exception, match="was damaged"):
        write_output(damaged, "sif", out, cache, SILENT)
    assert [(path, path.read_bytes()) for path in out.parent.iterdir()] == [(out, b"before")]


def test_what_a_killed_writer_left_is_removed_and_what_another_writes_is_not(
    tiny: Image, cache: Cache, tmp_path: Path
) -> None:
    left, other, held = (tmp_path / f".{name}" for name in ("x.sif.123.0123abcd", "x.sif.bak", "x.sif.124.0123abcd"))
    for path in (left, other, held):
        path.write_bytes(b"half")
    with held.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        write_output(tiny, "sif", tmp_path / "x.sif", cache, SILENT)
    assert {".x.sif.bak", held.name, "x.sif"} == {path.name for path in tmp_path.iterdir() if "x.sif" in path.name}


def test_a_pipe_gets_the_file_as_it_is(tiny: Image, cache: Cache, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert write_output(tiny, "sif", pipe, cache, SILENT) == GOLDEN
    reader.join()
    assert hashlib.sha256(got[0]).hexdigest() == GOLDEN
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("name", "kind"), [("a.sif", "sif"), ("a.sqsh", "squashfs"), ("a.sqfs", "squashfs"), ("a.tar", "oci"), ("a", "oci")]
)
def test_the_suffix_says_the_format(name: str, kind: str, tmp_path: Path) -> None:
    assert chosen(tmp_path / name, None, "auto", push=False) == kind
    assert chosen(tmp_path / name, "squashfs", "zstd", push=False) == "squashfs"


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none is named"):
        chosen(None, "sif", "auto", push=False)
    with pytest.raises(UsageError, match="an OCI archive isn't compressed"):
        chosen(tmp_path / "x.tar", None, "zstd", push=False)
    assert chosen(tmp_path / "x.tar", None, "zstd", push=True) == "oci"
