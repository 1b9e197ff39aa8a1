"""`launcher vault` and `launcher store gc` as they are typed: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher import records
from launcher import store as stores
from launcher.cache import Cache
from launcher.cli import invoke
from launcher.cli.pipeline import pin
from launcher.digest import sha256_bytes
from launcher.image import build
from launcher.job import Job, to_json
from launcher.lock import Lock, digest, dumps
from launcher.store import keys
from launcher.store.objects import Store
from tests.test_image_build import lock_of
from tests.test_vault import age, flip, keep
from tests.wheels import cached, wheel_bytes


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    values = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    for name, value in {**values, "NO_PROXY": "127.0.0.1", "LAUNCHER_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "store"))
    return Cache(tmp_path / "cache")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "store"))


@pytest.fixture
def lock(cache: Cache, tmp_path: Path) -> Lock:
    """A lock of two wheels and its image, written beside a spec."""
    from dataclasses import replace

    bare = lock_of(
        cached(cache, tmp_path, wheel_bytes("one"), "one"), cached(cache, tmp_path, wheel_bytes("two"), "two")
    )
    made = replace(bare, image=pin(build(bare, cache)))
    (tmp_path / "experiment.lock").write_text(dumps(made))
    (tmp_path / "experiment.yaml").write_text("name: x\nrun: 'true'\n")
    return made


def said(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> str:
    """Run a command and return what it printed, stdout and then stderr."""
    ended = invoke([str(arg) for arg in args])
    out, err = capsys.readouterr()
    assert ended == code, err
    return out + err


@pytest.mark.parametrize("name", ["experiment.lock", "experiment.yaml", "."])
def test_a_lock_is_added_by_any_of_its_names(
    lock: Lock, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert lock.image
    told = said(capsys, "vault", "add", tmp_path / name)
    files = 2 + len(lock.image.layers)
    assert told.startswith(f"{files} files copied to {store.url} (")
    assert told.endswith("), 0 were there\n")
    again = json.loads(said(capsys, "vault", "add", tmp_path / name, "--json"))
    assert (again["copied"], again["present"], again["locks"]) == (0, files, 1)
    assert store.exists(keys.lock(digest(lock)))


def test_a_run_is_added_with_its_code(
    lock: Lock, cache: Cache, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock.image
    store.put(keys.lock(digest(lock)), dumps(lock).encode())
    for data in (b"code", b"patch"):
        store.put(keys.artifact(sha256_bytes(data)), data)
    code = sha256_bytes(b"code")
    run = "20260101-000000-x-abcdef"
    job = Job(run=run, name="x", lock=digest(lock), image=lock.image.id, code=code, command="true", argv=("true",))
    records.submit(store, json.loads(to_json(job)), code={"patch": sha256_bytes(b"patch")})
    said(capsys, "vault", "add", "20260101", "--to", tmp_path / "paper")
    paper = stores.open(str(tmp_path / "paper"))
    assert paper.get(keys.artifact(sha256_bytes(b"code"))) == b"code"
    assert paper.get(keys.artifact(sha256_bytes(b"patch"))) == b"patch"
    assert said(capsys, "vault", "verify", "--all", "--store", tmp_path / "paper").endswith("as it should be\n")
    assert "no run in" in said(capsys, "vault", "add", "nobody", code=2)


def test_build_finds_in_the_vault_what_the_indexes_lost(
    lock: Lock, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock.image
    said(capsys, "vault", "add", tmp_path)
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cold"))
    assert f"image sha256:{lock.image.id}" in said(capsys, "build", tmp_path / "experiment.lock")
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "colder"))
    store.delete(keys.artifact(lock.wheels[0].sha256))
    told = said(capsys, "build", tmp_path / "experiment.lock", code=69)
    assert f"the vault in {store.url}: has no such file" in told and "127.0.0.1:9" in told


def test_damage_ends_with_76_and_is_healed(
    lock: Lock, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "vault", "add", tmp_path)
    wheel = lock.wheels[0]
    flip(store, keys.artifact(wheel.sha256))
    told = said(capsys, "vault", "verify", code=76)
    assert f"error: one 1.0: {wheel.filename} (sha256 {wheel.sha256}, lock {digest(lock)[:12]}) is damaged" in told
    assert "1 missing or damaged, 0 of them healed" in told and "hint: `--heal`" in told
    assert "healed from this machine's cache" in said(capsys, "vault", "verify", digest(lock)[:8], "--heal")
    assert "everything is as it should be" in said(capsys, "vault", "verify", tmp_path, "--all")


def test_a_lost_list_of_files_is_made_again(
    lock: Lock, cache: Cache, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No index has it, and this machine's cache has lost it too: building the image makes it."""
    assert lock.image
    said(capsys, "vault", "add", tmp_path)
    listing = lock.image.layers[0].listing
    store.delete(keys.artifact(listing))
    cache.path("artifacts", listing).unlink()
    assert "healed from the image, built again" in said(capsys, "vault", "verify", "--heal")


def test_what_can_not_be_healed_is_told(
    lock: Lock, cache: Cache, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "vault", "add", tmp_path)
    store.delete(keys.artifact(lock.wheels[1].sha256))
    cache.path("artifacts", lock.wheels[1].sha256).unlink()
    told = said(capsys, "vault", "verify", "--heal", code=76)
    assert "two 1.0: two-1.0-py3-none-any.whl" in told and "is missing, and can't be healed" in told
    assert "127.0.0.1:9" in told, "it says where it was looked for"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--sample", "many"), "--sample many: is no size"),
        (("--from", "elsewhere"), "--from goes with --heal"),
        (("0123",), "no locks in"),
    ],
)
def test_words_that_are_off(
    store: Store, cache: Cache, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert reason in said(capsys, "vault", "verify", *words, code=2)


def test_the_list(lock: Lock, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "vault", "list") == "0 locks, 0 files, 0 B\n"
    said(capsys, "vault", "add", tmp_path)
    head, line, total = said(capsys, "vault", "list").splitlines()
    assert head.split() == ["LOCK", "ADDED", "SIZE", "ONLY", "ITS", "OWN", "LACKS", "WHAT"]
    assert line.startswith(digest(lock)[:12]) and "Python 3.11.2" in line
    assert total.startswith("1 locks, ")
    files = json.loads(said(capsys, "vault", "list", "--artifacts", "--json"))
    assert {file["filename"] for file in files} >= {wheel.filename for wheel in lock.wheels}
    assert all(file["locks"] == [digest(lock)] for file in files)
    assert "one-1.0-py3-none-any.whl" in said(capsys, "vault", "list", "--artifacts")


def test_garbage_is_told_first_and_deleted_when_asked(
    lock: Lock, cache: Cache, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "vault", "add", tmp_path)
    store.put(keys.artifact(sha256_bytes(b"garbage")), b"garbage")
    assert "1 more (7 B) are younger than 1d" in said(capsys, "vault", "gc")
    age(store, b"garbage")
    assert keys.artifact(sha256_bytes(b"garbage")) in said(capsys, "vault", "gc", "--older-than", "0")
    told = said(capsys, "vault", "gc")
    assert keys.artifact(sha256_bytes(b"garbage")) in told
    assert "would delete 1 files, 7 B, that no lock, run or input refers to" in told
    deleted = json.loads(said(capsys, "vault", "gc", "--delete", "--json"))
    assert (deleted["deleted"], deleted["files"], deleted["bytes"]) == (True, 1, 7)
    assert "would delete 0 files" in said(capsys, "vault", "gc")
    assert "everything is as it should be" in said(capsys, "vault", "verify", "--all")
    for verb in ("vault", "store"):
        assert "there is no store at" in said(capsys, verb, "gc", "--delete", "--store", tmp_path / "typo", code=74)
    assert not (tmp_path / "typo").exists()
    assert "--older-than soon" in said(capsys, "vault", "gc", "--older-than", "soon", code=2)


def test_leftovers_of_runs(store: Store, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    keep(cache)
    key = keys.blob("20260101-000000-x-abcdef", sha256_bytes(b"orphan"))
    store.put(key, b"orphan")
    assert "would delete 0 leftovers" in said(capsys, "store", "gc")
    path = Path(store.folder or "", key)
    os.utime(path, (path.stat().st_mtime - 2 * 86400,) * 2)
    told = said(capsys, "store", "gc")
    assert "a checkpoint's file that no manifest names" in told and "would delete 1 leftovers of runs, 6 B" in told
    assert json.loads(said(capsys, "store", "gc", "--delete", "--json"))["found"][0]["key"] == key
    assert not store.exists(key)
