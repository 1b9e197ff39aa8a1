"""The store: objects below a folder or in memory, created once, whole or not there."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.errors import AccessError, DiskFullError, ObjectExistsError, ObjectMissingError, StoreError
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.objects import Store, translated


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        server = request.getfixturevalue("s3")
        return stores.open(Access(server.url + "/below/here", server.settings), lambda: server.credentials)
    return stores.open("memory://" if request.param == "memory" else str(tmp_path / "store"))


def test_an_object_comes_back(store: Store) -> None:
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    assert (store.get("a/b"), store.size("a/b"), store.exists("a/b"), store.exists("a")) == (b"two", 3, True, False)
    assert b"".join(store.stream("a/b")) == b"two"
    assert [store.get_range("a/b", start, 2) for start in (0, 1, 2, 3, 9)] == [b"tw", b"wo", b"o", b"", b""]


def test_a_stream_comes_back(store: Store, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(20_000_000)
    store.put("s", (data[at : at + 999_999] for at in range(0, len(data), 999_999)))
    assert b"".join(store.stream("s")) == data
    (tmp_path / "file").write_bytes(data[:77])
    store.put_file("f", tmp_path / "file")
    assert store.get("f") == data[:77]
    store.put("empty", iter(()))
    assert store.get("empty") == b"" == b"".join(store.stream("empty"))


def test_a_second_create_loses(store: Store) -> None:
    store.create("a", b"one")
    with pytest.raises(ObjectExistsError, match="written only once"):
        store.create("a", b"two")
    assert store.get("a") == b"one"


def test_of_many_creators_one_wins(store: Store) -> None:
    for n in range(20):
        won: list[int] = []
        threads = [threading.Thread(target=create, args=(store, f"race/{n}", me, won)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.get(f"race/{n}") == b"%d" % won[0]


def create(store: Store, key: str, me: int, won: list[int]) -> None:
    try:
        store.create(key, b"%d" % me)
    except ObjectExistsError:
        return
    won.append(me)


def test_what_is_missing_is_told_apart(store: Store) -> None:
    for ask in (store.get, store.size, lambda key: list(store.stream(key)), lambda key: store.get_range(key, 0, 1)):
        with pytest.raises(ObjectMissingError, match="no/such"):
            ask("no/such")
    store.delete("no/such")


def test_a_stream_that_breaks_leaves_nothing(store: Store) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"x" * 9_000_000
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        store.put("a", breaking())
    assert store.list() == []


def test_lists_are_sorted_and_end_at_a_slash(store: Store) -> None:
    for key in ("runs/b/x", "runs/a/y/z", "runs/ab/x", "other"):
        store.put(key, b"12")
    assert [(entry.key, entry.size) for entry in store.list("runs/a/")] == [("runs/a/y/z", 2)]
    assert [entry.key for entry in store.list()] == ["other", "runs/a/y/z", "runs/ab/x", "runs/b/x"]
    assert store.folders("runs/") == ("a", "ab", "b")
    assert [entry.key for entry in store.list("runs/", after="runs/a/y/z")] == ["runs/ab/x", "runs/b/x"]
    assert [entry.key for entry in store.list(after="runs/ab")] == ["runs/ab/x", "runs/b/x"]
    assert (store.list("none/"), store.folders("none/")) == ([], ())
    store.delete("runs/b/x")
    assert store.list("runs/b/") == []


@pytest.mark.parametrize(
    "name", ["a b", "#1", "a#12", "100%", "..", ".", "...", "a\nb", "\udcff", "\u00e9\u4f60", "-x", "a\\b", "*?", "~"]
)
def test_any_name_makes_a_key(store: Store, name: str) -> None:
    key = keys.output("run", 1, f"folder/{name}") if name.strip(".") else keys.lock(keys.quoted(name))
    store.create(key, name.encode("utf-8", "surrogateescape"))
    assert [entry.key for entry in store.list()] == [key]
    assert store.get(key) == name.encode("utf-8", "surrogateescape")


def test_different_names_make_different_keys() -> None:
    names = ["a#1", "a%231", "a", "A", "a.", "..", "%2E%2E", ".", "a b", "a%20b"]
    assert len({keys.quoted(name) for name in names}) == len(names)
    for name in (*names, "\udcff", "\u00e9\n"):
        assert keys.unquoted(keys.quoted(name)) == name


def test_numbers_are_read_back_from_keys() -> None:
    made = [keys.event("r", 3, 14), keys.log("r", 3, 14), keys.metric("r", 3, 14), keys.checkpoint("r", 3, 14)]
    assert {keys.numbers(key) for key in made} == {(3, 14)}
    assert sorted([keys.log("r", 1, 10), keys.log("r", 1, 9)])[0] == keys.log("r", 1, 9)


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("LAUNCHER_STORE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert stores.default_url() == "/home/someone/.local/share/launcher/store"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert stores.default_url() == "/home/someone/.local/share/launcher/store"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert stores.default_url() == "/data/launcher/store"
    monkeypatch.setenv("LAUNCHER_STORE", "file:///elsewhere")
    assert stores.default_url() == "file:///elsewhere"


@pytest.mark.parametrize(
    ("place", "folder"),
    [("file:///a/b%20c", "/a/b c"), ("file://localhost/a", "/a"), ("/x/../y", "/y"), ("memory://", None)],
)
def test_a_place_means_a_folder(place: str, folder: str | None) -> None:
    assert stores.folder_of(place) == folder


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://", "by its bucket alone"),
        ("gs://user@bucket", "by its bucket alone"),
        ("s3:/bucket", "`s3:/bucket` names no store"),
        ("s3://bucket/a/../b", "names no store"),
        ("ftp://example.org/", "no kind of store"),
        ("file://example.org/x", "names the host"),
    ],
)
def test_other_places_are_refused(place: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        stores.open(place)


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        stores.open(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    store = stores.open(str(tmp_path))
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="owner and mode"):
        store.put("a/b", b"")


def test_every_error_of_the_library_has_a_translation() -> None:
    import obstore.exceptions

    kinds = [kind for kind in vars(obstore.exceptions).values() if isinstance(kind, type)]
    assert len(kinds) > 5
    assert all(isinstance(translated(kind("x"), "here"), StoreError) for kind in kinds)
    assert isinstance(translated(obstore.exceptions.GenericError("x (os error 28)"), "here"), DiskFullError)


WRITER = """
import sys
sys.path[:0] = {path!r}
from launcher import store
s = store.open({place!r})
print("ready", flush=True)
for n in range(10**9):
    s.put(f"put/{{n % 7}}", iter([bytes([n % 251]) * 700_000] * 5))
    s.create(f"create/{{n}}", bytes([n % 251]) * 300_000)
"""


def test_a_killed_writer_leaves_no_half_object(tmp_path: Path) -> None:
    store, chance = stores.open(str(tmp_path)), random.Random(2)
    for _ in range(12):
        script = WRITER.format(path=sys.path, place=str(tmp_path))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
            assert p.stdout is not None and p.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.08))
            p.send_signal(signal.SIGKILL)
        for entry in store.list():
            data = store.get(entry.key)
            assert len(data) == (3_500_000 if entry.key.startswith("put/") else 300_000)
            assert data == data[:1] * len(data)
        for entry in store.list("create/"):  # the next writer of a key steps around what the killed one left
            store.delete(entry.key)


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EROFS, AccessError, "mount it to be written to, or name another store"),
        (errno.EACCES, AccessError, "look at the folder's owner and mode"),
        (errno.EIO, StoreError, None),
    ],
)
def test_what_a_folder_says_is_told_without_the_name_of_the_part(
    number: int, kind: type[StoreError], hint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "a#12345"))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError) as caught:
        stores.open(str(tmp_path)).put("a", b"x")
    problem = caught.value.problems[0]
    assert type(caught.value) is kind
    assert (problem.message, problem.hint) == (f"{tmp_path}: a: {os.strerror(number)}", hint)


def test_opening_a_store_is_what_loads_the_library() -> None:
    code = "import sys, launcher.store, launcher.store.keys, launcher.store.objects; print('obstore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_reading_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        stores.open_to_read(str(tmp_path / "typo"))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "later"))
    assert stores.open_to_read().list() == []
    assert stores.open_to_read().url == str(tmp_path / "later")
    assert not (tmp_path / "later").exists()
    stores.open().put("a", b"")
    assert [entry.key for entry in stores.open_to_read().list()] == ["a"]
