"""The cache: whole files or none, damage noticed, dead scratch swept."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.cache import Cache, default_root, disk_full
from launcher.digest import sha256_bytes, sha256_file
from launcher.errors import DiskFullError
from launcher.image import build
from launcher.lock import dumps, loads
from tests.identity import facts
from tests.test_image_build import lock_of
from tests.wheels import cached, wheel_bytes

KILLS = 50


def put(cache: Cache, data: bytes) -> str:
    with cache.scratch() as scratch:
        (scratch / "part").write_bytes(data)
        cache.adopt("artifacts", sha256_bytes(data), scratch / "part")
    return sha256_bytes(data)


def test_what_is_put_is_found(cache: Cache) -> None:
    path = cache.find("artifacts", put(cache, b"data"))
    assert path
    assert path.read_bytes() == b"data"
    assert cache.find("blobs", sha256_bytes(b"data")) is None


@pytest.mark.parametrize("damage", [b"other", b"dat", b"", b"dbta"])
def test_damage_is_noticed_and_removed(damage: bytes, cache: Cache) -> None:
    sha256 = put(cache, b"data")
    cache.path("artifacts", sha256).write_bytes(damage)
    assert cache.find("artifacts", sha256) is None
    assert not cache.path("artifacts", sha256).exists()


def test_a_note_with_a_flipped_bit_is_none(cache: Cache) -> None:
    cache.write_note("facts", "x", {"size": 1040, "name": "é"})
    assert cache.note("facts", "x") == {"size": 1040, "name": "é"}
    path = cache.root / "notes" / "facts" / "x.json"
    whole = path.read_bytes()
    assert json.loads(whole)["value"] == {"size": 1040, "name": "é"}
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cache.note("facts", "x") is None or at == len(whole) - 1


def test_a_touched_but_whole_file_is_kept(cache: Cache) -> None:
    sha256 = put(cache, b"data")
    os.utime(cache.path("artifacts", sha256), (1, 1))
    assert cache.find("artifacts", sha256)


def test_scratch_goes_with_its_owner(cache: Cache) -> None:
    with cache.scratch() as scratch:
        (scratch / "x").write_bytes(b"")
        assert list((cache.root / "tmp").iterdir())
    assert not list((cache.root / "tmp").iterdir())


def test_scratch_of_the_living_is_left_alone(cache: Cache) -> None:
    with cache.scratch() as one, cache.scratch() as other:
        assert one != other
        with cache.scratch():
            assert one.is_dir()
            assert other.is_dir()


def test_scratch_of_the_dead_is_swept(cache: Cache) -> None:
    code = "import sys,os,signal\nfrom pathlib import Path\nfrom launcher.cache import Cache\n"
    code += "with Cache(Path(sys.argv[1])).scratch() as s:\n (s/'x').write_bytes(b'x')\n"
    code += " os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code, str(cache.root)])
    assert done.returncode == -signal.SIGKILL
    assert len(list((cache.root / "tmp").iterdir())) == 2
    with cache.scratch() as mine:
        assert {path.name for path in (cache.root / "tmp").iterdir()} == {mine.name, f"{mine.name}.lock"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space is left in"), disk_full(tmp_path):
        raise OSError(number, "full")
    with pytest.raises(PermissionError), disk_full(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAUNCHER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_root() == Path("/x/launcher")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    monkeypatch.setenv("HOME", "/home/me")
    assert default_root() == Path("/home/me/.cache/launcher")
    monkeypatch.setenv("LAUNCHER_CACHE", "/own")
    assert default_root() == Path("/own")


def start(lock: Path, cache: Cache) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    args = [sys.executable, "-m", "tests.identity", str(lock), str(cache.root)]
    process = subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_build_killed_at_any_moment_leaves_nothing_wrong(cache: Cache, tmp_path: Path) -> None:
    files = {f"many/{n}.bin": random.Random(n).randbytes(20_000) for n in range(200)}
    wheels = [cached(cache, tmp_path, wheel_bytes(name, files={**files, name: b"1"}), name) for name in ("one", "two")]
    lock = tmp_path / "experiment.lock"
    lock.write_text(dumps(lock_of(*wheels)))
    undisturbed = Cache(tmp_path / "undisturbed")
    for wheel in wheels:
        copy = tmp_path / "copy"
        copy.write_bytes(cache.path("artifacts", wheel.sha256).read_bytes())
        undisturbed.adopt("artifacts", wheel.sha256, copy)
    begun = time.monotonic()
    expected = facts(build(loads(lock.read_text(), "experiment.lock"), undisturbed), undisturbed)
    usual_s = time.monotonic() - begun
    dice = random.Random(1)
    for _ in range(KILLS):
        forget_layers(cache)
        process = start(lock, cache)
        time.sleep(dice.uniform(0, usual_s))
        process.kill()
        process.communicate()
        check(cache)
    with start(lock, cache) as process:
        assert process.stdout
        assert process.stdout.read().split() == expected
    assert not list((cache.root / "tmp").iterdir())


def forget_layers(cache: Cache) -> None:
    """Let the next build have something to do, now and then on top of what the last one left."""
    for path in [*(cache.root / "notes" / "layers").glob("*"), *(cache.root / "notes" / "images").glob("*")]:
        path.unlink()


def check(cache: Cache) -> None:
    """Every file on the shelves is what its name says."""
    for path in [*(cache.root / "blobs").rglob("*"), *(cache.root / "artifacts").rglob("*")]:
        if path.is_file():
            assert sha256_file(path)[0] == path.name


@pytest.mark.skipif(subprocess.run(["unshare", "-rm", "true"]).returncode != 0, reason="no user namespaces here")
def test_a_build_on_a_full_disk_says_so_and_leaves_nothing_half(cache: Cache, tmp_path: Path) -> None:
    wheel = cached(cache, tmp_path, wheel_bytes("wide", files={"wide/data": bytes(30_000_000)}), "wide")
    (tmp_path / "an.lock").write_text(dumps(lock_of(wheel)))
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
import shutil, sys
from pathlib import Path
from launcher.cache import Cache
from launcher.errors import DiskFullError
from launcher.image import build
from launcher.lock import load
cache = Cache(Path({str(disk)!r}) / "cache")
shutil.copytree({str(cache.root)!r}, cache.root, dirs_exist_ok=True)
try:
    build(load(Path({str(tmp_path / "an.lock")!r})), cache)
except DiskFullError as e:
    print(e)
print(*(path.name for shelf in ("blobs", "tmp") for path in (cache.root / shelf).rglob("*") if path.is_file()))
"""
    mount = 'mount -t tmpfs -o size=20m disk "$1" && exec "$2" -c "$3"'
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    args = ["unshare", "-rm", "sh", "-c", mount, "sh", str(disk), sys.executable, script]
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert said[0] == f"no space is left in {disk}/cache"
    assert said[-1] == ""
