"""Files up and down: whole, checked, counted, limited, and nothing left behind by a failure."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.errors import DiskFullError, IntegrityError, ObjectMissingError, UnreachableError
from launcher.store import backends, transfers
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.object_stores import Faulty, ObjectStore

DATA = random.Random(3).randbytes(21_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def opened(server: ObjectStore) -> Store:
    return stores.open(Access(server.url + "/below", server.settings), lambda: server.credentials)


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return opened(request.getfixturevalue("s3"))
    return stores.open("memory://" if request.param == "memory" else str(tmp_path / "store"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.write_bytes(DATA)
    return path


class Counted:
    """A limit that counts, and a listener."""

    def __init__(self) -> None:
        self.taken = self.moved = 0

    def take(self, amount: int) -> None:
        self.taken += amount

    def move(self, amount: int) -> None:
        self.moved += amount


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, len(DATA)])
def test_a_file_goes_up_and_comes_down(
    store: Store, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "RANGE_LEAST", 5_000_000)
    (tmp_path / "up").write_bytes(DATA[:size])
    up, down = Counted(), Counted()
    store.put_file("a/b", tmp_path / "up", moved=up.move, limit=up)
    assert (up.moved, up.taken, store.size("a/b")) == (size, size, size)
    store.get_file("a/b", tmp_path / "down", sha256=hashlib.sha256(DATA[:size]).hexdigest(), moved=down.move)
    assert (tmp_path / "down").read_bytes() == DATA[:size]
    assert down.moved == size


def test_what_fails_leaves_nothing_here(store: Store, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    store.put_file("a", file)
    with pytest.raises(IntegrityError, match=f"sha256 {SHA256}"):
        store.get_file("a", folder / "x", sha256="0" * 64)
    with pytest.raises(ObjectMissingError):
        store.get_file("missing", folder / "x")
    with pytest.raises(FileNotFoundError):
        store.get_file("a", folder / "no" / "x")
    assert list(folder.iterdir()) == []
    (folder / "x").write_text("older")
    store.get_file("a", folder / "x", sha256=SHA256)
    assert (folder / "x").read_bytes() == DATA


def test_a_file_that_can_not_be_read_is_the_caller_s(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file("a", tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        store.put_file("a", tmp_path)
    assert store.list() == []


def test_a_limit_that_fails_comes_out_as_it_is(store: Store, file: Path) -> None:
    class Stopped:
        def take(self, amount: int) -> None:
            raise KeyError("the run was stopped")

    with pytest.raises(KeyError, match="the run was stopped"):
        store.put_file("a", file, limit=Stopped())
    assert store.list() == []


def test_many_go_and_come(store: Store, file: Path) -> None:
    objects = {f"many/{n:03}": b"%d" % n for n in range(300)}
    store.put_many(objects.items())
    store.put_many([("many/file", file)])
    found = dict(store.get_many([*objects, "many/file", "many/missing"]))
    assert found == {**objects, "many/file": DATA, "many/missing": None}
    store.delete_many([*objects, "many/missing"])
    assert [entry.key for entry in store.list()] == ["many/file"]
    assert list(store.get_many([])) == []


def test_a_full_disk_is_told(store: Store, file: Path, tmp_path: Path) -> None:
    store.put_file("a", file)
    out = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="No space") as caught:
            transfers.write(out, b"x", 0, None)
    finally:
        os.close(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfers, "receive", lambda *_: (_ for _ in ()).throw(caught.value))
        with pytest.raises(DiskFullError, match="no space is left on this machine"):
            store.get_file("a", tmp_path / "y")
    assert not list(tmp_path.glob("y*"))


def test_a_cut_upload_is_finished_by_its_retries(faulty_s3: Faulty, file: Path) -> None:
    store = opened(faulty_s3)
    faulty_s3.proxy.fault("cut-request", only="PUT .*partNumber=2", after=100_000, times=1)
    faulty_s3.proxy.fault("answer", only="PUT .*partNumber=1", status=503, code="SlowDown", times=1)
    store.put_file("a", file)
    assert store.get("a") == DATA


def test_a_cut_download_goes_on(faulty_s3: Faulty, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "RANGE_LEAST", 5_000_000)
    store = opened(faulty_s3)
    store.put_file("a", file)
    faulty_s3.proxy.fault("cut-response", only="GET .*below/a", after=1_000_000, times=3)
    store.get_file("a", tmp_path / "down", sha256=SHA256)
    faulty_s3.proxy.fault("flip-response", only="GET .*below/a", after=70_000, times=1)
    with pytest.raises(IntegrityError):
        store.get_file("a", tmp_path / "flipped", sha256=SHA256)
    assert not list(tmp_path.glob("flipped*"))


@pytest.mark.alone
def test_a_link_that_is_too_slow_gets_smaller_parts(
    faulty_s3: Faulty, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "READ_S", 1)
    monkeypatch.setattr(backends, "RETRIES", 0)
    store = opened(faulty_s3)
    faulty_s3.proxy.fault("stall", only="PUT .*partNumber", seconds=3, times=3)
    store.put_file("a", file)
    assert transfers.careful(store)
    assert faulty_s3.direct.client().head_object(Bucket=faulty_s3.bucket, Key="below/a")["ETag"].endswith('-5"')
    assert store.get("a") == DATA


def test_an_upload_that_fails_for_good_leaves_no_object(
    faulty_s3: Faulty, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "RETRIES", 0)
    store = opened(faulty_s3)
    faulty_s3.proxy.fault("answer", only="PUT .*partNumber=2", status=500)
    with pytest.raises(UnreachableError):
        store.put_file("a", file)
    assert store.list() == []


MEMORY = """
import json, resource, sys
sys.path[:0] = {path!r}
from launcher import store
from launcher.store.access import from_json
s = store.open(from_json({access!r}), lambda: {secrets!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
s.put_file("big", {file!r})
s.get_file("big", {file!r} + ".down")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_stays_flat(s3: ObjectStore, tmp_path: Path) -> None:
    """168 MB go up and down, and the process grows by what is under way."""
    with (tmp_path / "big").open("wb") as out:
        for _ in range(8):
            out.write(DATA)
    access = Access(s3.url, s3.settings).to_json()
    code = MEMORY.format(path=sys.path, access=access, secrets=s3.credentials, file=str(tmp_path / "big"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150, "MB"
    assert (tmp_path / "big.down").stat().st_size == 8 * len(DATA)
