"""Inputs on this machine: pinned by digest, compared with the lock, kept on the node's shelf within its limit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes, tree_digest
from launcher.errors import DiskFullError, FetchError, IntegrityError, LauncherError, SpecError, UsageError
from launcher.inputs import fit, pin, room, stage
from launcher.inputs.assemble import assemble
from launcher.inputs.gather import Inbox
from launcher.inputs.items import Item, changes, checked, from_json, same_bytes, to_json
from launcher.inputs.shelf import Shelf
from launcher.lock import DataPin, Lock
from launcher.lock.inputs import inputs
from launcher.progress import Silent, SilentTask, Task
from launcher.spec.model import CodeSpec, DataSpec, ImageSpec, Spec


class Tasks(Silent):
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.notes: list[str] = []

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task:
        self.labels.append(label)
        return SilentTask()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LAUNCHER_INPUTS", "LAUNCHER_INPUTS_MAX"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a")
    (made / "sub" / "b.txt").write_bytes(b"bb")
    (made / "sub" / "link").symlink_to("../a.txt")
    return made


@pytest.fixture
def shelf(cache: Cache) -> Shelf:
    return Shelf.of(cache)


def put(shelf: Shelf, name: str, contents: dict[str, bytes], used: float | None = None) -> DataPin:
    """Put an input on the shelf: a tree, or a file where its one name is empty."""
    inbox = Inbox(shelf, SilentTask())
    for path, data in contents.items():
        inbox.take_bytes(Item(name=path), data)
    items = sorted(inbox.found.values(), key=lambda item: item.name)
    kind = "file" if "" in contents else "tree"
    size = sum(item.size for item in items)
    digest = items[0].sha256 if kind == "file" else tree_digest((i.name, "file", str(i.sha256)) for i in items)
    made = DataPin(name=name, kind=kind, size=size, sha256=str(digest))  # type: ignore[arg-type]
    assemble(shelf, made, items)
    held = shelf.find(made.sha256)
    assert held
    held.release()
    if used is not None:
        os.utime(shelf.root / "locks" / made.sha256, (used, used))
    return made


def lock_of(spec: Spec, cache: Cache) -> Lock:
    pins = tuple(pin(data, cache) for data in spec.data)
    return Lock(inputs=inputs(spec), suite="bookworm", architecture="amd64", python=None, libc="glibc 2.36", data=pins)


def spec_of(tmp_path: Path, *data: DataSpec) -> Spec:
    file = tmp_path / "x.yaml"
    return Spec(name="x", image=ImageSpec(), code=CodeSpec(root=tmp_path), run="true", data=data, file=file)


# Pins


def test_a_tree_is_known_by_names_contents_and_links(folder: Path, cache: Cache) -> None:
    found = pin(DataSpec(name="d", path=folder), cache)
    entries = [
        ("a.txt", "file", sha256_bytes(b"a")),
        ("sub/b.txt", "file", sha256_bytes(b"bb")),
        ("sub/link", "link", "../a.txt"),
    ]
    assert (found.kind, found.size, found.sha256) == ("tree", 3, tree_digest(entries))
    (folder / "a.txt").chmod(0o600)
    os.utime(folder / "a.txt", (1, 1))
    (folder / "empty").mkdir()
    assert pin(DataSpec(name="d", path=folder), cache) == found


def test_a_file_is_known_by_its_bytes(folder: Path, cache: Cache) -> None:
    found = pin(DataSpec(name="f", path=folder / "sub" / "b.txt"), cache)
    assert (found.kind, found.size, found.sha256) == ("file", 2, sha256_bytes(b"bb"))


def test_what_did_not_change_is_not_read_again(folder: Path, cache: Cache) -> None:
    tasks, data = Tasks(), DataSpec(name="d", path=folder)
    first = pin(data, cache, tasks)
    assert pin(data, cache, tasks) == first
    assert tasks.labels == ["read data d"]
    (folder / "a.txt").write_bytes(b"c")
    assert pin(data, cache, tasks) != first
    assert len(tasks.labels) == 2


def test_data_that_is_not_what_the_spec_says(folder: Path, cache: Cache) -> None:
    with pytest.raises(IntegrityError, match="and the spec says 000"):
        pin(DataSpec(name="d", path=folder, sha256="0" * 64), cache)


def test_data_that_a_run_could_not_use(folder: Path, cache: Cache, tmp_path: Path) -> None:
    (folder / "out").symlink_to("../elsewhere")
    (folder / "absolute").symlink_to(folder / "a.txt")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SpecError) as caught:
        pin(DataSpec(name="d", path=folder), cache)
    assert len(caught.value.problems) == 3
    with pytest.raises(SpecError, match="there is nothing at"):
        pin(DataSpec(name="d", path=tmp_path / "no"), cache)


# Lists of files


def test_a_list_survives_json_and_is_held_to_its_digest(folder: Path, cache: Cache, shelf: Shelf) -> None:
    found = pin(DataSpec(name="d", path=folder), cache)
    items = shelf.listed(found.sha256)
    assert items and [item.name for item in items] == ["a.txt", "sub/b.txt", "sub/link"]
    assert from_json(to_json(items), found.sha256, "x") == items
    with pytest.raises(IntegrityError, match="is not that of the tree"):
        from_json(to_json(items[1:]), found.sha256, "x")
    with pytest.raises(IntegrityError, match="no list"):
        from_json(b"{}", found.sha256, "x")


def test_a_list_that_leads_out_is_refused() -> None:
    items = [Item(name="a", size=1, sha256="0" * 64), Item(name="../b", size=1, sha256="0" * 64)]
    digest = tree_digest((item.name, "file", "0" * 64) for item in items)
    with pytest.raises(IntegrityError):
        from_json(to_json(items), digest, "x")


def test_a_list_that_leads_through_a_link_is_refused() -> None:
    items = [Item(name="a", target="/elsewhere"), Item(name="a/b", size=1, sha256="0" * 64)]
    digest = tree_digest([("a", "link", "/elsewhere"), ("a/b", "file", "0" * 64)])
    with pytest.raises(IntegrityError):
        from_json(to_json(items), digest, "x")


def test_changes_are_told_the_first_ten() -> None:
    before = [Item(name=f"{n:02}", size=n, sha256=str(n)) for n in range(20)]
    now = [Item(name=f"{n:02}", size=n + (n == 7), sha256=str(n) + "x" * (n == 7)) for n in range(5, 30)]
    told = changes(before, now, same_bytes)
    assert told[0] == "removed: 00" and told[5] == "changed: 07 (7 bytes, now 8)" and told[6] == "added: 20"
    assert len(told) == 11 and told[-1] == "and 6 more"


def test_names_that_no_folder_can_have_are_refused_together() -> None:
    names = ["a", "a/b", "../c", "d//e", "f\n"]
    with pytest.raises(SpecError) as caught:
        checked([Item(name=name) for name in names], "x")
    assert len(caught.value.problems) == 4


# Lock and source


def test_changed_data_is_told_file_by_file(folder: Path, cache: Cache, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, DataSpec(name="d", path=folder))
    lock = lock_of(spec, cache)
    assert fit(lock, spec, cache).changed == []
    (folder / "a.txt").write_bytes(b"ccc")
    (folder / "new").write_bytes(b"")
    (folder / "sub" / "b.txt").unlink()
    [problem] = fit(lock, spec, cache).changed
    assert problem.where and problem.where.key == "data.d"
    told = ["changed: a.txt (1 bytes, now 3)", "added: new", "removed: sub/b.txt"]
    assert problem.message.splitlines()[1:] == [f"  {line}" for line in told]


def test_inputs_that_come_and_go(folder: Path, cache: Cache, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, DataSpec(name="d", path=folder))
    lock = lock_of(spec, cache)
    other = replace(spec, data=(DataSpec(name="e", path=folder),))
    assert [problem.message for problem in fit(lock, other, cache).asked] == [
        "came after the lock was made",
        "is in the lock and no longer in the spec",
    ]
    pinned = replace(spec, data=(DataSpec(name="d", path=folder, sha256="0" * 64),))
    [problem] = fit(lock, pinned, cache).asked
    assert problem.message.startswith("is to have sha256 000")


def test_a_build_asks_no_source(folder: Path, cache: Cache, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, DataSpec(name="d", path=folder))
    lock = lock_of(spec, cache)
    (folder / "a.txt").write_bytes(b"ccc")
    assert not fit(lock, spec, cache, ask=False).changed


def test_local_data_need_no_folder_of_inputs(
    folder: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAUNCHER_INPUTS", str(tmp_path / "file" / "inputs"))
    source = DataSpec(name="d", path=folder)
    pinned = pin(source, cache)
    assert stage(pinned, source, cache).origin == "place"
    with pytest.raises(LauncherError, match="point LAUNCHER_INPUTS at"):
        stage(pinned, None, cache)


def test_data_that_is_elsewhere_leaves_the_lock_alone(folder: Path, cache: Cache, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, DataSpec(name="d", path=folder))
    lock = lock_of(spec, cache)
    folder.rename(tmp_path / "away")
    found = fit(lock, spec, cache)
    assert not found.changed and not found.asked and "there is nothing at" in found.unknown[0]


# Staging


def test_a_local_folder_is_used_where_it_lies(folder: Path, cache: Cache) -> None:
    data = DataSpec(name="d", path=folder)
    staged = stage(pin(data, cache), data, cache)
    assert (staged.path, staged.origin) == (folder.resolve(), "place")
    locked = pin(data, cache)
    (folder / "a.txt").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"is not what was locked .*\n  changed: a.txt"):
        stage(locked, data, cache)


def test_what_is_nowhere_is_told(cache: Cache) -> None:
    with pytest.raises(FetchError, match="is not on this node") as caught:
        stage(DataPin(name="d", kind="file", size=3, sha256="0" * 64), None, cache)
    assert "launcher data add" in str(caught.value)


def test_an_entry_is_read_only_and_shares_contents(shelf: Shelf, cache: Cache) -> None:
    first = put(shelf, "one", {"a": b"same", "sub/b": b"bb"})
    second = put(shelf, "two", {"c": b"same"})
    one, two = stage(first, None, cache), stage(second, None, cache)
    assert one.origin == "cache" and (one.path / "sub" / "b").read_bytes() == b"bb"
    assert (one.path / "a").samefile(two.path / "c")
    assert oct((one.path / "a").stat().st_mode)[-3:] == "444" and oct(one.path.stat().st_mode)[-3:] == "555"
    assert room.used(shelf) == len(b"same" + b"bb")


def test_a_touched_entry_is_made_again(shelf: Shelf, cache: Cache) -> None:
    made = put(shelf, "one", {"a": b"aa", "b": b"bb"})
    path = shelf.entry(made.sha256) / "data" / "a"
    path.chmod(0o644)
    path.write_bytes(b"xx")
    assert shelf.find(made.sha256) is None
    with pytest.raises(FetchError):  # its content was touched too, for they are one
        stage(made, None, cache)
    Inbox(shelf, SilentTask()).take_bytes(Item(name="a"), b"aa")
    staged = stage(made, None, cache)
    assert (staged.path / "a").read_bytes() == b"aa"


def test_a_killed_assembly_leaves_nothing_that_counts(shelf: Shelf, cache: Cache) -> None:
    made = put(shelf, "one", {"a": b"aa"})
    half = shelf.root / "partial" / f"{made.sha256}.dead"
    (half / "data").mkdir(parents=True)
    os.utime(half, (1, 1))
    assert room.sweep(shelf, 0) == 0 and not half.exists()
    assert stage(made, None, cache).origin == "cache"


# Room


def test_the_longest_unused_goes_first_and_what_is_held_stays(
    shelf: Shelf, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = [put(shelf, f"d{n}", {"": bytes([n]) * 100_000}, used=1000.0 + n) for n in range(4)]
    monkeypatch.setenv("LAUNCHER_INPUTS_MAX", "400K")
    held = stage(pins[0], None, cache)  # used now, and held
    os.utime(shelf.root / "locks" / pins[0].sha256, (1, 1))
    tasks = Tasks()
    room.make(shelf, 100_000, "a new one", tasks)
    left = [entry.name for entry in room.entries(shelf)]
    assert left == ["d0", "d2", "d3"] and tasks.notes[0].startswith("removed the input d1")
    with pytest.raises(DiskFullError, match="inputs may take"):
        room.make(shelf, 500_000, "a big one")
    with pytest.raises(DiskFullError, match="are in use"):
        room.make(shelf, 350_000, "a big one")
    assert [entry.name for entry in room.entries(shelf)] == ["d0"]
    assert held.held
    held.held.release()
    room.make(shelf, 350_000, "a big one")
    assert room.entries(shelf) == [] and room.used(shelf) == 0


def test_removal_keeps_what_another_entry_shares(shelf: Shelf, cache: Cache) -> None:
    one = put(shelf, "one", {"a": b"same", "b": b"only"})
    two = put(shelf, "two", {"a": b"same"})
    assert room.remove(shelf, one.sha256) == len(b"only")
    assert (stage(two, None, cache).path / "a").read_bytes() == b"same"
    assert shelf.find(one.sha256) is None
    assert shelf.listed(one.sha256), "the list stays, to tell what changed"


def test_a_living_process_keeps_its_input(shelf: Shelf) -> None:
    made = put(shelf, "one", {"": b"x"})
    code = (
        "import sys, pathlib; from launcher.inputs.shelf import Shelf\n"
        f"held = Shelf(pathlib.Path({str(shelf.root)!r})).find({made.sha256!r}); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        assert room.remove(shelf, made.sha256) is None
        process.kill()
        process.wait()
    assert room.remove(shelf, made.sha256) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_two_users_share_what_is_there() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        root = Path(place) / "inputs"
        root.mkdir()
        root.chmod(0o1777)
        shelf = Shelf(root)
        mine = put(shelf, "mine", {"a": b"shared", "b": b"mine"})
        code = as_nobody(lambda: theirs(root, mine))
        assert code == 0
        assert {entry.name for entry in room.entries(shelf)} == {"mine", "theirs"}
        room.trim(shelf, 1 << 40)
        assert room.used(shelf) == 0


def theirs(root: Path, mine: DataPin) -> None:
    """What another user does with inputs that aren't theirs."""
    shelf = Shelf(root)
    held = shelf.find(mine.sha256)
    assert held and (held.path / "a").read_bytes() == b"shared"
    held.release()
    put(shelf, "theirs", {"a": b"shared", "c": b"theirs"})
    assert room.remove(shelf, mine.sha256) is None and shelf.about(mine.sha256)


def as_nobody(do: Callable[[], None]) -> int:
    """Do something as another user, in a process of its own; return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads; this child takes none along
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        do()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def test_one_brings_and_the_others_wait(shelf: Shelf) -> None:
    tasks, order = Tasks(), []
    begun, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with shelf.alone("key", "data `d`"):
            begun.set()
            go_on.wait(5)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(5)
    threading.Timer(0.1, go_on.set).start()
    with shelf.alone("key", "data `d`", tasks):
        order.append("second")
    thread.join()
    assert order == ["first", "second"] and "another process" in tasks.notes[0]


def test_loose_contents_stay_for_a_day(shelf: Shelf) -> None:
    Inbox(shelf, SilentTask()).take_bytes(Item(name="a"), b"aa")
    assert room.sweep(shelf, room.LOOSE_S) == 0
    assert room.sweep(shelf, 0) == 2


@pytest.mark.parametrize("text", ["many", "-1", "10GB"])
def test_a_limit_that_is_no_size(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LAUNCHER_INPUTS_MAX", text)
    with pytest.raises(UsageError, match="LAUNCHER_INPUTS_MAX"):
        room.make(shelf, 1, "x")


def test_a_folder_that_can_not_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LauncherError, match="can't be used"):
        Shelf(tmp_path / "file" / "inputs")


@pytest.mark.alone
def test_thousands_of_files_are_looked_at_quickly(shelf: Shelf, cache: Cache) -> None:
    made = put(shelf, "many", {f"{n % 50}/{n}": str(n).encode() for n in range(5000)})
    began = time.monotonic()
    assert stage(made, None, cache).origin == "cache"
    assert time.monotonic() - began < 2.0
