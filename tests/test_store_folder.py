"""A folder as a store: what it said it has survives a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.errors import DiskFullError, ObjectExistsError, StoreError
from launcher.store.objects import Store

Synced = list[tuple[str, list[str]]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "store"))


@pytest.fixture
def synced(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Note what is brought to the disk, and what has a name by then."""
    found: Synced = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found.append((str(path.relative_to(tmp_path)).partition("#")[0], [entry.key for entry in store.list()]))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def file_of(folder: Path) -> Path:
    (folder / "file").write_bytes(bytes(20 << 20))
    return folder / "file"


@pytest.mark.parametrize(
    "write",
    [
        lambda store, _: store.create("runs/r/manifest", b"x"),
        lambda store, _: store.put("runs/r/manifest", b"x"),
        lambda store, _: store.put("runs/r/manifest", iter([b"x", b"y"])),
        lambda store, folder: store.put_file("runs/r/manifest", file_of(folder)),
    ],
    ids=["create", "put", "stream", "file"],
)
def test_bytes_are_on_the_disk_before_their_name_and_the_name_before_the_answer(
    store: Store, synced: Synced, tmp_path: Path, write: Callable[[Store, Path], None]
) -> None:
    write(store, tmp_path)
    named = ["runs/r/manifest"]
    assert synced == [("store/runs/r/manifest", []), ("store/runs/r", named), ("store/runs", named), ("store", named)]
    synced.clear()
    store.put("runs/r/next", b"x")
    assert [path for path, _ in synced] == ["store/runs/r/next", "store/runs/r"], "older folders have their names"


def test_a_file_system_without_fsync_serves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    store.create("a", b"x")
    assert store.get("a") == b"x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_when_it_comes_to_it_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Network file systems tell of a quota when a file is synced."""

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        store.create("a/b", b"x")
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_second_one_leaves_the_first_and_no_scraps(store: Store, tmp_path: Path) -> None:
    store.create("a", b"first")
    with pytest.raises(ObjectExistsError):
        store.create("a", b"second")

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        store.put("a", broken())
    assert store.get("a") == b"first"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["a" * 255, "\N{CJK UNIFIED IDEOGRAPH-65E5}" * 85])
def test_a_name_as_long_as_the_file_system_allows_serves(store: Store, name: str) -> None:
    store.put(f"outputs/{name}", b"x")
    store.create(f"locks/{name}", b"y")
    assert (store.get(f"outputs/{name}"), store.get(f"locks/{name}")) == (b"x", b"y")


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_in_the_place_of_a_store_is_told_as_one(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is no folder"):
        stores.open(f"{tmp_path}/file{below}")


def test_a_file_in_the_place_of_the_default_store_is_no_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="is no folder"):
        stores.open_to_read()
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "new"))
    assert not stores.open_to_read().list()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_named_as_the_cause(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    store.put("a", b"x")
    with pytest.raises(StoreError, match="no hard links"):
        store.create("b", b"x")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]
