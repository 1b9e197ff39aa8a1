"""The index of runs: it tells what the records tell, asks for little, and never lies, whatever happens to it."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher import store as stores
from launcher.errors import AccessError, UnreachableError, UsageError
from launcher.records import snapshots, updating
from launcher.records.brief import Brief, brief, from_text, to_text
from launcher.records.index import DamagedError, Index, Row, at, place
from launcher.records.runs import Runs
from launcher.runner import fold as folding
from launcher.runner.clock import stamp
from launcher.runner.fold import seconds
from launcher.runner.metrics import Summary
from launcher.store import keys
from launcher.store.objects import Store

NOON = seconds("2026-01-31T12:00:00.000000Z")
HOUR = 3600.0


class Asked(Store):
    """A store in memory that counts what it is asked, and can be cut off."""

    def __init__(self) -> None:
        super().__init__(stores.Access("memory://"), None)
        self.log: list[str] = []
        self.fails: Exception | None = None

    def call(self, key: str, ask: Any) -> Any:
        self.log.append(key)
        if self.fails:
            raise self.fails
        return super().call(key, ask)


class World:
    """A store, what happens in it by a clock of one's own, and the lists that somebody sees."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder, self.now = Asked(), folder, NOON
        self.seqs: dict[str, int] = {}
        self.rows: dict[str, int] = {}

    def event(self, run: str, kind: str, attempt: int = 1, **facts: Any) -> None:
        seq = 0 if kind == "queued" else self.seqs.get(f"{run}-{attempt}", 0) + 1
        self.seqs[f"{run}-{attempt}"] = seq
        told = {"kind": kind, "time": stamp(int(self.now * 1e9)), "attempt": attempt, "seq": seq, **facts}
        self.store.create(keys.event(run, attempt, seq), json.dumps(told).encode())

    def queue(self, run: str, attempt: int = 1, journal: bool = True, name: str = "trial", **params: Any) -> None:
        job = {"version": 1, "run": run, "name": name, "argv": ["true"], "params": params}
        if journal:
            self.store.put(keys.journal(stamp(int(self.now * 1e9)), attempt, run), b"")
        if attempt == 1:
            self.store.create(keys.job(run), json.dumps(job).encode())
        self.event(run, "queued", attempt, who="someone")

    def start(self, run: str, attempt: int = 1) -> None:
        self.event(run, "started", attempt, runner="0.1.0", heartbeat_s=20)

    def beat(self, run: str, rows: list[dict[str, Any]], attempt: int = 1, chunk: int | None = 0) -> None:
        if chunk is not None:
            self.store.put(keys.metric(run, attempt, chunk), b"\n".join(json.dumps(row).encode() for row in rows))
        total = self.rows[run] = len(rows) + (self.rows.get(run, 0) if chunk else 0)
        told = {"time": stamp(int(self.now * 1e9)), "every_s": 20, "rows": total}
        self.store.put(keys.heartbeat(run, attempt), json.dumps(told).encode())

    def end(self, run: str, code: int = 0, attempt: int = 1, record: bool = True) -> None:
        self.event(run, "ended", attempt, code=code, signal=None, reason=None)
        self.event(run, "closed", attempt, missing=[], log_bytes_lost=0)
        if record and not self.store.exists(keys.record(run)):
            told = records.load(self.store, run, self.now)
            self.store.create(keys.record(run), json.dumps(told, default=vars).encode())

    def whole(self, run: str, code: int = 0, **params: Any) -> None:
        self.queue(run, **params)
        self.start(run)
        self.end(run, code)

    def runs(self, folder: str = "index") -> Runs:
        return Runs("memory://", self.store, self.folder / folder, clock=lambda: self.now)

    def listed(self, folder: str = "index", **options: Any) -> list[Brief]:
        with self.runs(folder) as runs:
            runs.update(**options)
            assert not runs.wrong
            return runs.select()

    def states(self, folder: str = "index", **options: Any) -> dict[str, str]:
        return {told.run: told.state for told in self.listed(folder, **options)}

    def truth(self) -> dict[str, Brief]:
        """What the records say, each read by itself: the opinion that is not the index's."""
        return {told.run: brief(told) for told in records.ls(self.store, now=self.now)}

    def agree(self, folder: str = "index") -> None:
        assert {told.run: told for told in self.listed(folder)} == self.truth()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_brief_survives_its_text() -> None:
    told = Brief(
        run="r", state="failed", params={"lr": 0.1, "on": False}, metrics={"loss": [1, 2, 3, 4, 5, 6, 7]}, attempt=2
    )
    assert from_text(to_text(told)) == told
    assert (told.step, told.figure("loss", "min"), told.figure("no", "min")) == (2, 3, None)


def test_lists_tell_what_records_tell(world: World) -> None:
    world.whole("a", lr=0.1)
    world.whole("b", code=1, lr=0.2)
    world.queue("c")
    world.queue("d")
    world.start("d")
    world.beat("d", [{"step": 3, "loss": 0.5}])
    world.agree()
    assert [told.run for told in world.listed()] == sorted("abcd", reverse=True)


def test_a_run_is_followed_from_its_queue_to_its_end_and_beyond(world: World) -> None:
    world.queue("a")
    seen = [world.states()["a"]]
    world.start("a")
    seen.append(world.states()["a"])
    world.now += 500
    seen.append(world.states()["a"])
    world.beat("a", [{"step": 1, "loss": 1.0}])
    world.now += 5 * 60
    seen.append(world.states()["a"])
    world.beat("a", [{"step": 2, "loss": 0.5}], chunk=1)
    world.agree()
    world.end("a", code=1)
    seen.append(world.states()["a"])
    world.now += HOUR
    world.queue("a", attempt=2)
    seen.append(world.states()["a"])
    world.start("a", 2)
    world.agree()
    world.end("a", 0, attempt=2)
    seen.append(world.states()["a"])
    world.agree()
    assert seen == ["queued", "running", "unknown", "unknown", "failed", "queued", "succeeded"]


def test_what_has_ended_is_not_asked_about_again(world: World) -> None:
    for number in range(30):
        world.now += 10 * 60
        world.whole(f"run-{number:02}")
    world.listed()
    world.store.log.clear()
    assert len(world.listed()) == 30
    assert len(world.store.log) == 1, "one listing of the journal"


def test_of_a_running_one_little_is_asked(world: World) -> None:
    world.queue("a")
    world.start("a")
    for number in range(40):
        world.beat("a", [{"step": number, "loss": 1.0}], chunk=number)
    world.beat("a", [{}] * 40, chunk=None)
    world.listed()
    world.store.log.clear()
    world.listed()
    assert len(world.store.log) == 3, "journal, next event, heartbeat"
    world.now += 20
    world.beat("a", [{"step": 99, "loss": 0.1}] * 41, chunk=None)
    world.store.put(keys.metric("a", 1, 40), b'{"step": 99, "loss": 0.1}\n')
    world.store.log.clear()
    [told] = world.listed()
    assert (told.step, told.figure("loss", "last"), told.figure("loss", "count")) == (99, 0.1, 41)
    assert len(world.store.log) == 5, "and the list of metrics with the one new chunk"


def test_a_silent_run_is_asked_about_more_and_more_seldom_but_about_when_it_is_named(world: World) -> None:
    world.queue("a")
    world.start("a")
    world.listed()
    asked = []
    for _ in range(100):
        world.now += 1200
        world.store.log.clear()
        assert world.states()["a"] == ("unknown")
        asked.append(len(world.store.log) > 1)
    assert 10 < sum(asked) < 50 and sum(asked[:20]) > sum(asked[-20:])
    world.end("a")
    assert world.states(about=["a"]) == {"a": "succeeded"}


@pytest.mark.parametrize("skew_s", [-0.9 * HOUR, 0.9 * HOUR, 24 * HOUR])
def test_clocks_that_disagree_hide_no_run(world: World, skew_s: float) -> None:
    world.queue("first")
    world.listed()
    world.now += skew_s
    world.queue("skewed")
    world.now -= skew_s
    assert set(world.states()) == {"first", "skewed"}
    world.now += 60
    world.queue("later")
    assert set(world.states()) == {"first", "skewed", "later"}


def test_a_journal_entry_before_its_job_is_no_run_yet(world: World) -> None:
    world.queue("a")
    world.store.put(keys.journal(stamp(int(world.now * 1e9)), 1, "b"), b"")
    assert set(world.states()) == {"a"}
    world.store.put(keys.journal("garbage", 1, "c"), b"")
    world.queue("b", journal=False)
    assert set(world.states()) == {"a", "b"}


def test_runs_from_before_there_was_a_journal_are_found(world: World) -> None:
    world.queue("old", journal=False)
    world.start("old")
    world.end("old", 1)
    world.queue("old", attempt=2, journal=False)
    assert world.states() == {"old": "queued"}, "its record is of the attempt before"
    world.queue("odd", journal=False)
    assert set(world.states()) == {"old"}, "what no journal tells of"
    assert set(world.states(refresh=True)) == {"old", "odd"}
    world.start("old", 2)
    world.end("old", 0, attempt=2)
    assert world.states()["old"] == "succeeded"
    world.queue("old", attempt=3, journal=False)
    assert world.states()["old"] == "succeeded" and world.states(refresh=True)["old"] == "queued"


def test_a_queued_attempt_that_was_withdrawn_is_one_no_more(world: World) -> None:
    world.whole("a", code=1)
    world.queue("a", attempt=2)
    assert world.states() == {"a": "queued"}
    records.withdraw(world.store, "a", 2)
    world.agree()
    assert world.states() == {"a": "failed"}


def test_a_store_that_was_made_anew_is_noticed(world: World) -> None:
    world.whole("a")
    world.whole("b")
    world.listed()
    world.store.delete_many(entry.key for entry in world.store.list())
    assert world.states() == {}
    world.whole("c")
    assert world.states() == {"c": "succeeded"}


def test_a_damaged_run_is_told_of_and_hides_no_other(world: World) -> None:
    world.whole("a")
    world.queue("b")
    world.store.put(keys.job("b"), b"{}")
    world.whole("c")
    world.store.put(keys.record("c"), b"not JSON")
    with world.runs() as runs:
        runs.update()
        assert [told.run for told in runs.select()] == ["c", "a"], "c is read from its events"
        assert any("the run b can't be read" in text for text in runs.wrong)


def test_what_a_killed_runner_left_settles(world: World) -> None:
    """No record comes any more: after an hour nobody asks again."""
    world.queue("a")
    world.start("a")
    assert records.end_for_dead(world.store, "a", 1, "the sandbox was killed", "SIGKILL")
    assert world.states() == {"a": "killed"}
    world.now = max(world.now, seconds(stamp())) + 2 * HOUR  # end_for_dead has the real clock
    world.listed()
    world.store.log.clear()
    assert world.states() == {"a": "killed"}
    assert len(world.store.log) == 1


def damages(folder: Path) -> Iterator[str]:
    """Do one harm after another to the index's file."""
    current = folder / "current"
    yield "nothing"
    (folder / current.read_text()).write_bytes(b"not a database at all" * 100)
    yield "garbage"
    (folder / current.read_text()).write_bytes(b"")
    yield "an empty file"
    path = folder / current.read_text()
    data = bytearray(path.read_bytes())
    for at_byte in range(4096, len(data), 511):
        data[at_byte] ^= 0x10
    path.write_bytes(data)
    yield "flipped bits"
    with sqlite3.connect(folder / current.read_text()) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    yield "another version"
    with sqlite3.connect(folder / current.read_text()) as db:
        db.execute("UPDATE runs SET told = replace(told, 'succeeded', 'failed')")
    db.close()
    yield "rows that were changed"
    with sqlite3.connect(folder / current.read_text()) as db:
        db.execute("UPDATE notes SET value = 'x'")
    db.close()
    yield "notes that were changed"
    current.write_text("../../escaped")
    yield "a pointer that leads nowhere"
    current.unlink()
    yield "no pointer"
    for file in folder.iterdir():
        file.unlink()
    yield "no file"


def test_a_damaged_index_is_made_anew_and_never_lies(world: World) -> None:
    for number in range(40):
        world.whole(f"run-{number}", lr=number)
    world.listed()
    truth = world.truth()
    for harm in damages(world.folder / "index"):
        assert {told.run: told for told in world.listed()} == truth, harm
    assert len(list((world.folder / "index").glob("*.sqlite"))) == 1, "what was thrown away is gone"


def test_a_folder_that_cannot_be_written_makes_it_slower_only(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    world.whole("a")
    for folder in ("file", "/proc/nowhere"):
        assert world.states(folder) == {"a": "succeeded"}


def test_a_full_disk_makes_it_slower_only(world: World) -> None:
    world.whole("a")
    world.listed()
    world.whole("b")
    with world.runs() as runs:
        runs.index.db.execute("PRAGMA max_page_count = 1")  # SQLite's own "database or disk is full"
        for number in range(300):
            world.whole(f"more-{number}", text="x" * 100)
        runs.update()
        assert len(runs.select()) == 302
        assert runs.index.path is None, "it lives in memory now"
    assert len(world.states()) == 302


def test_a_lock_that_somebody_holds_makes_it_slower_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.records.index.BUSY_S", 0.1)
    world.whole("a")
    with world.runs() as other:
        other.update()
        other.index.db.execute("BEGIN IMMEDIATE")
        world.whole("b")
        assert set(world.states()) == {"a", "b"}
        other.index.db.execute("ROLLBACK")


def test_an_older_reading_never_replaces_a_newer_one(tmp_path: Path) -> None:
    index = Index(tmp_path)

    def row(seq: int, state: str, final: int = 0) -> Row:
        return Row("r", "n", state, "", None, at(1, seq), final, 0.0, to_text(Brief(run="r", state=state)))

    for one in (row(3, "running"), row(2, "queued"), row(3, "succeeded", 1), row(3, "running")):
        index.write([one])
    assert [one.state for one in index.rows()] == ["succeeded"]
    index.write([row(1, "queued")], force=True)
    assert [one.state for one in index.rows()] == ["queued"]
    index.db.execute("UPDATE runs SET state = 'failed'")
    with pytest.raises(DamagedError):
        index.rows()
    index.close()


def test_many_threads_and_processes_may_list_at_once(tmp_path: Path) -> None:
    store = stores.open(str(tmp_path / "store"))
    for number in range(50):
        records.submit(store, {"version": 1, "run": f"r{number:02}", "name": "n", "argv": [], "params": {}})
    code = (
        "import sys; from pathlib import Path; from launcher import store as stores\n"
        "from launcher.records.runs import Runs\n"
        "store = stores.open_to_read(sys.argv[1])\n"
        "for _ in range(5):\n"
        "    with Runs(store.url, store, Path(sys.argv[2])) as runs:\n"
        "        runs.update(refresh=True)\n"
        "        assert len(runs.select()) == 50\n"
    )
    args = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "store"), str(tmp_path / "index")]
    readers = [subprocess.Popen(args, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(reader.communicate()[1], reader.returncode) for reader in readers] == [("", 0)] * 4


def test_a_snapshot_spares_a_new_machine_the_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "WORTH", 20)
    for number in range(40):
        world.now += 60
        world.whole(f"run-{number:02}", lr=number)
    with world.runs("mine") as runs:
        runs.update()
        assert runs.leave_snapshot() and not runs.leave_snapshot()
    world.now += 60
    world.queue("after")
    world.store.log.clear()
    assert {told.run: told for told in world.listed("theirs")} == world.truth()
    with world.runs("theirs") as runs:
        assert not runs.leave_snapshot(), "the one that is there is good enough"


def test_a_new_machine_asks_little(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "WORTH", 20)
    for number in range(40):
        world.now += 600
        world.whole(f"run-{number:02}")
    with world.runs("mine") as runs:
        runs.update()
        runs.leave_snapshot()
    world.store.log.clear()
    assert len(world.listed("theirs")) == 40
    assert len(world.store.log) == 4, "snapshots listed, one read, the journal, the runs"


@pytest.mark.parametrize("harm", ["cut", "flipped", "foreign", "empty", "version"])
def test_a_damaged_snapshot_is_passed_over(world: World, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    monkeypatch.setattr(snapshots, "WORTH", 5)
    for number in range(10):
        world.whole(f"run-{number}")
    with world.runs("mine") as runs:
        runs.update()
        assert runs.leave_snapshot()
    [key] = [entry.key for entry in world.store.list(keys.snapshot())]
    data = world.store.get(key)
    flipped = bytearray(data)
    flipped[len(data) * 2 // 3] ^= 1
    bad = {"cut": data[:-20], "flipped": bytes(flipped), "foreign": b"\x00\xff" * 99, "empty": b""}
    bad["version"] = data.replace(b'"version": 1', b'"version": 9', 1)
    world.store.put(key, bad[harm])
    world.agree("theirs")


def test_the_two_newest_snapshots_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "WORTH", 3)
    for number in range(16):
        world.now += 60
        world.whole(f"run-{number:02}")
        with world.runs() as runs:
            runs.update()
            runs.leave_snapshot()
    kept = [entry.key for entry in world.store.list(keys.snapshot())]
    assert len(kept) == 2
    assert snapshots.parsed(world.store.get(kept[-1]))[0]["runs"] == 15


def test_a_store_that_takes_no_snapshot_is_left_in_peace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "WORTH", 3)
    for number in range(5):
        world.whole(f"run-{number}")
    tries = []

    def refuse(key: str, data: bytes) -> None:
        tries.append(key)
        raise AccessError("read-only")

    monkeypatch.setattr(world.store, "create", refuse)
    for _ in range(3):
        with world.runs() as runs:
            runs.update()
            assert not runs.leave_snapshot()
    assert len(tries) == 1
    world.now += 25 * HOUR
    with world.runs() as runs:
        runs.update()
        assert not runs.leave_snapshot()
    assert len(tries) == 2


def test_what_cannot_be_asked_is_told_as_unknown_with_its_time(world: World) -> None:
    world.whole("a")
    world.queue("b")
    world.start("b")
    world.listed()
    asked_at = world.now
    world.now += 40
    world.store.fails = UnreachableError("no answer")
    with world.runs() as runs:
        with pytest.raises(UnreachableError):
            runs.update()
        assert runs.as_of == asked_at
        told = {told.run: told for told in runs.select()}
        assert (told["a"].state, told["b"].state) == ("succeeded", "unknown")
        assert "it was running when the store was last asked, at 2026-01-31T12:00:00" in (told["b"].reason or "")
        assert (runs.count(states=("unknown",)), runs.count(states=("running",))) == (1, 0)
        assert not runs.leave_snapshot()
    world.store.fails = None
    assert world.states() == {"a": "succeeded", "b": "running"}


def test_what_was_learned_before_the_store_went_away_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updating, "BATCH", 5)
    for number in range(12):
        world.whole(f"run-{number:02}")
    known: list[int] = []
    real = Index.write

    def write(self: Index, rows: Iterable[Row] = (), *args: Any, **kwargs: Any) -> None:
        real(self, rows, *args, **kwargs)
        known.append(self.count())
        if len(known) == 2:
            world.store.fails = UnreachableError("gone")

    monkeypatch.setattr(Index, "write", write)
    with world.runs() as runs, pytest.raises(UnreachableError):
        runs.update()
    world.store.fails = None
    monkeypatch.setattr(Index, "write", real)
    with world.runs() as runs:
        assert runs.index.count() >= 5
    world.agree()


def test_runs_are_found_by_a_beginning(world: World) -> None:
    for run in ("apple-1", "apple-12", "pear-1"):
        world.whole(run)
    with world.runs() as runs:
        runs.update()
        assert runs.find("p") == "pear-1" and runs.find("apple-1") == "apple-1"
        with pytest.raises(UsageError, match="2 runs begin with `apple`"):
            runs.find("apple")
        assert [told.run for told in runs.get(["pear-1", "no", "apple-1"])] == ["pear-1", "apple-1"]


def test_odd_names_are_no_trouble(world: World) -> None:
    for run in ("with space", "sl/ash", "per%cent", "ünï", "\u001b[31m", "quo'te\"", "..."):
        world.whole(run)
    world.agree()
    with world.runs() as runs:
        runs.update()
        assert runs.find("sl/") == "sl/ash"
        assert runs.count(name="trial'; DROP TABLE runs; --") == 0


def test_stores_of_one_name_at_two_servers_have_two_indexes(tmp_path: Path) -> None:
    here, there = ({"endpoint": f"http://{host}.example.org"} for host in ("here", "there"))
    assert place(tmp_path, "s3://bucket", here) != place(tmp_path, "s3://bucket", there)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_lists_and_records_agree(world: World, seed: int) -> None:
    """Random histories, and two machines that look at random times."""
    dice = random.Random(seed)
    live: dict[str, tuple[int, str]] = {}
    for step in range(80):
        world.now += dice.choice([1, 15, 15, 200])
        run = dice.choice([*live, f"run-{step}"])
        attempt, state = live.get(run, (0, "ended"))
        if state == "ended" and (attempt == 0 or dice.random() < 0.3):
            world.queue(run, attempt + 1)
            live[run] = (attempt + 1, "queued")
        elif state == "queued":
            world.start(run, attempt)
            live[run] = (attempt, "started")
        elif state == "started" and dice.random() < 0.6:
            world.event(run, dice.choice(["checkpoint", "problem"]), attempt, text="x", name="c", bytes=1)
        elif state == "started":
            world.end(run, dice.choice([0, 1]), attempt)
            live[run] = (attempt, "ended")
        if dice.random() < 0.3:
            folder = dice.choice(["one", "other"])
            told, truth = {told.run: told for told in world.listed(folder)}, world.truth()
            assert told.keys() == truth.keys()
            for name, known in told.items():
                assert known.state == truth[name].state or "unknown" in (known.state, truth[name].state)
    world.now += 10
    final = {told.run: told for told in world.listed("one", refresh=True)}
    assert {run: told.state for run, told in final.items()} == {run: told.state for run, told in world.truth().items()}


def test_summaries_grow_as_whole_ones_do(world: World) -> None:
    rows = [{"step": step, "loss": (step * 37) % 11 / 7, "acc": step} for step in range(50)]
    world.queue("a")
    world.start("a")
    for number in range(10):
        part = rows[number * 5 : number * 5 + 5]
        world.store.put(keys.metric("a", 1, number), b"\n".join(json.dumps(row).encode() for row in part))
        world.beat("a", rows[: number * 5 + 5], chunk=None)
        if number % 3 == 0:
            world.listed()
    whole = Summary()
    whole.add_lines([json.dumps(row).encode() for row in rows])
    [told] = world.listed()
    assert told == world.truth()["a"]
    assert told.figure("loss", "min") == whole.names["loss"]["min"]
    assert folding.fold_metrics({1: whole})["rows"] == 50


def test_one_thread_lists_while_another_updates(world: World) -> None:
    for number in range(20):
        world.whole(f"run-{number:02}")
    world.listed()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                assert len(world.listed(refresh=True)) >= 20
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_the_index_may_be_deleted_while_it_is_used(world: World) -> None:
    world.whole("a")
    with world.runs() as runs:
        runs.update()
        for path in (world.folder / "index").iterdir():
            path.unlink()
        world.whole("b")
        runs.update()
        assert len(runs.select()) == 2
    assert set(world.states()) == {"a", "b"}
