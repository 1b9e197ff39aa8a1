"""Records: what is folded from events, how runs are found, and what the client may say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher import store as stores
from launcher.errors import StoreError, UsageError
from launcher.runner import fold as folding
from launcher.runner.clock import stamp
from launcher.runner.fold import between, seconds
from launcher.store import keys
from launcher.store.objects import Store

JOB = {"run": "r1", "name": "trial", "argv": ["true"], "params": {"lr": 0.1}, "image": "1" * 64}
NOON = seconds("2026-01-31T12:00:00.000000Z")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "store"))


def at(second: int) -> str:
    return f"2026-01-31T12:{second // 60:02}:{second % 60:02}.000000Z"


def event(kind: str, second: int, attempt: int = 1, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "time": at(second), "attempt": attempt, "seq": second, **facts}


QUEUED = event("queued", 0, who="someone")
STARTED = event("started", 1, runner="0.1.0", heartbeat_s=20)
STOP = event("signal", 2, signal="SIGTERM", stops=True)
USER = event("signal", 2, signal="SIGUSR1", stops=False)
CLOSED = event("closed", 9, missing=[], log_bytes_lost=0)


def ended(code: int | None = 0, signal: str | None = None, **more: Any) -> dict[str, Any]:
    return event("ended", 8, code=code, signal=signal, **{"reason": None, **more})


@pytest.mark.parametrize(
    ("events", "now", "state"),
    [
        ([], 0, "queued"),
        ([QUEUED], 10**6, "queued"),
        ([QUEUED, STARTED], 10, "running"),
        ([QUEUED, STARTED], 120, "running"),
        ([QUEUED, STARTED], 130, "unknown"),
        ([QUEUED, STARTED, ended(0)], 10**6, "succeeded"),
        ([QUEUED, STARTED, ended(1)], 10, "failed"),
        ([QUEUED, STARTED, ended(137, "SIGKILL")], 10, "killed"),
        ([QUEUED, STARTED, STOP, ended(0)], 10, "killed"),
        ([QUEUED, STARTED, STOP, ended(143, "SIGTERM")], 10, "killed"),
        ([QUEUED, STARTED, USER, ended(0)], 10, "succeeded"),
        ([QUEUED, STARTED, ended(None, by="client", reason="the runner was killed")], 10**6, "killed"),
        ([QUEUED, ended(127, reason="there is no program `x`")], 10, "failed"),
        ([STARTED, ended(0), event("queued", 20, 2)], 30, "queued"),
        ([STARTED, ended(1), event("started", 20, 2), event("ended", 30, 2, code=0, signal=None)], 40, "succeeded"),
    ],
)
def test_the_state_is_what_the_events_say(events: list[dict[str, Any]], now: float, state: str) -> None:
    assert records.fold(JOB, events, now=NOON + now).state == state


def test_a_code_that_a_shell_gives_for_a_signal_is_explained() -> None:
    told = {code: records.fold(JOB, [STARTED, {**ended(code), "seq": 2}]).reason or "" for code in (1, 137, 255)}
    assert told[137] == "the command ended with code 137, which a shell gives for SIGKILL"
    assert (told[1], told[255]) == ("the command ended with code 1", "the command ended with code 255")


def test_a_silent_run_is_unknown_with_its_age_and_a_heartbeat_revives_it() -> None:
    silent = records.fold(JOB, [STARTED], now=NOON + 500)
    assert (silent.state, silent.reason) == ("unknown", "no sign of life for 499 s")
    beats = {1: {"time": at(450), "every_s": 20}}
    assert records.fold(JOB, [STARTED], beats=beats, now=NOON + 500).state == "running"


def test_an_attempt_without_an_end_before_a_later_one_is_unknown() -> None:
    record = records.fold(JOB, [STARTED, event("started", 3, 2)], now=NOON + 5)
    assert [attempt.state for attempt in record.attempts] == ["unknown", "running"]
    assert record.state == "running"


def test_a_whole_record() -> None:
    outputs = event("outputs", 9, key="k", files=1, digest="d", bytes=3, missing=[])
    record = records.fold(JOB, [QUEUED, STARTED, ended(0), outputs, CLOSED])
    assert (record.who, record.queued, record.started, record.ended) == ("someone", at(0), at(1), at(8))
    assert (record.duration_s, record.complete, record.runner) == (7.0, True, "0.1.0")
    assert (record.params, record.image) == ({"lr": 0.1}, "1" * 64)
    assert record.outputs is not None and record.outputs["digest"] == "d"


def test_what_is_missing_makes_it_incomplete() -> None:
    missing = records.fold(JOB, [STARTED, ended(0), {**CLOSED, "missing": ["output x"]}])
    assert (missing.complete, missing.missing) == (False, ("output x",))
    assert not records.fold(JOB, [STARTED, ended(0), {**CLOSED, "log_bytes_lost": 9}]).complete
    assert not records.fold(JOB, [STARTED, ended(0)]).complete


def test_times_are_read_back() -> None:
    assert between("2026-02-28T23:59:59.500000Z", "2026-03-01T00:00:01.250000Z") == 1.75
    assert between(None, at(1)) is None
    for ns in range(0, 4 * 10**18, 9_876_543_210_123_456):
        assert seconds(stamp(ns)) == pytest.approx(ns / 1e9, abs=1e-5)


def test_submitting_twice_changes_nothing(store: Store) -> None:
    records.submit(store, JOB, code={"commit": "abc", "dirty": True})
    before = {entry.key: store.get(entry.key) for entry in store.list()}
    records.submit(store, JOB, code={"commit": "abc", "dirty": True})
    assert {entry.key: store.get(entry.key) for entry in store.list()} == before
    record = records.load(store, "r1")
    assert (record.state, record.code_facts) == ("queued", {"commit": "abc", "dirty": True})
    with pytest.raises(StoreError, match="belongs to another job"):
        records.submit(store, {**JOB, "argv": ["false"]})


def test_the_journal_tells_of_each_attempt_once(store: Store) -> None:
    for attempt in (1, 2, 2):
        records.submit(store, JOB, attempt=attempt)
    [first, second] = [entry.key for entry in store.list(keys.journal())]
    assert first.endswith("-0001-r1") and second.endswith("-0002-r1") and first < second
    assert store.get(first) == b""


def test_who_queued_is_known_when_the_answer_was_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    create = store.create

    def twice(key: str, data: bytes) -> None:
        create(key, data)
        create(key, data)

    monkeypatch.setattr(store, "create", twice)
    assert records.submit(store, JOB)
    assert records.end_for_dead(store, "r1", 1, "it died")


SUPERSEDED = event("superseded", 7, by=2, host="node7", since=at(6), epoch=2)
CLAIMED = event("claimed", 3, epoch=1, inherits=0, waited_s=0.0)


@pytest.mark.parametrize("end", [[], [ended(0)], [STOP, ended(143, "SIGTERM")]])
def test_an_attempt_that_was_superseded_says_by_whom(end: list[dict[str, Any]]) -> None:
    record = records.fold(JOB, [QUEUED, STARTED, CLAIMED, *end, SUPERSEDED, event("started", 20, 2)], now=NOON + 25)
    one, two = record.attempts
    assert (one.state, one.reason) == ("killed", "superseded by attempt 2 on node7")
    assert one.claim is not None and one.claim["epoch"] == 1
    assert one.superseded is not None and one.superseded["since"] == at(6)
    assert (record.state, two.superseded) == ("running", None)


def test_what_keep_removed_or_does_not_count_is_not_named() -> None:
    made = [event("checkpoint", 2 + number, key=f"k{number}", name=f"s{number}") for number in range(4)]
    events = [QUEUED, STARTED, *made, event("forgotten", 7, key="k0", name="s0")]
    assert [told["name"] for told in records.fold(JOB, events).checkpoints] == ["s1", "s2", "s3"]
    counted = folding.fold(JOB, events, {}, counting={"k0", "k1", "k3"})
    assert [told["name"] for told in counted["checkpoints"]] == ["s1", "s3"]


def test_the_client_may_end_an_attempt_whose_runner_died_but_not_another(store: Store) -> None:
    records.submit(store, JOB)
    store.create(keys.event("r1", 1, 1), json.dumps({**STARTED, "seq": 1}).encode())
    assert records.end_for_dead(store, "r1", 1, "the sandbox was killed", "SIGKILL")
    record = records.load(store, "r1")
    assert (record.state, record.reason, record.exit["signal"]) == ("killed", "the sandbox was killed", "SIGKILL")
    assert not records.end_for_dead(store, "r1", 1, "again")
    assert records.load(store, "r1").reason == "the sandbox was killed"


def test_attempts_are_counted(store: Store) -> None:
    assert records.next_attempt(store, "r1") == 1
    assert records.submit(store, JOB)
    assert records.next_attempt(store, "r1") == 2, "who queued the first may be about to begin it"
    store.create(keys.event("r1", 1, 1), json.dumps({**STARTED, "seq": 1}).encode())
    assert records.next_attempt(store, "r1") == 2


def test_of_two_who_queue_an_attempt_one_is_told_that_it_has_it(store: Store) -> None:
    assert [records.submit(store, JOB, attempt=2) for _ in range(2)] == [True, False]
    records.withdraw(store, "r1", 2)
    assert not store.list(keys.events("r1"))


@pytest.mark.parametrize(
    ("told", "never"),
    [
        ([STARTED], True),
        ([STARTED, {"kind": "ended", "code": 0, "signal": None}], True),
        ([STARTED, {"kind": "ended", "code": 1, "signal": None}], False),
        ([], False),
    ],
    ids=["goes on", "has succeeded", "has failed", "never began"],
)
def test_an_attempt_that_waited_in_vain_is_told_from_one_that_failed(
    store: Store, told: list[dict[str, object]], never: bool
) -> None:
    for number in (1, 2):
        assert records.submit(store, JOB, attempt=number)
    for seq, facts in enumerate(told, 1):
        store.create(keys.event("r1", 1, seq), json.dumps({**STARTED, **facts, "attempt": 1, "seq": seq}).encode())
    assert records.never_began(store, "r1", 2) is never
    store.create(keys.event("r1", 2, 1), json.dumps({**STARTED, "attempt": 2, "seq": 1}).encode())
    assert not records.never_began(store, "r1", 2)


def test_a_beginning_is_enough_if_it_is_one_runs(store: Store) -> None:
    for run in ("apple-1", "apple-12", "pear-1"):
        records.submit(store, {**JOB, "run": run})
    assert records.find(store, "p") == "pear-1"
    assert records.find(store, "apple-1") == "apple-1", "a whole id wins over a beginning"
    with pytest.raises(UsageError, match="2 runs begin with `apple`:\n  apple-1\n  apple-12"):
        records.find(store, "apple")
    Path(store.url, "runs", "zzz").mkdir()  # what a full disk left of a run that never was
    assert records.find(store, None) == "pear-1"
    for nothing in ("x", ""):
        with pytest.raises(UsageError, match="no run"):
            records.find(store, nothing)


def test_a_list_is_newest_first_and_passes_over_what_is_no_run(store: Store) -> None:
    for number, run in enumerate(("b", "c", "a")):
        store.create(keys.job(run), json.dumps({**JOB, "run": run, "name": f"n{number % 2}"}).encode())
        store.create(keys.event(run, 1, 0), json.dumps({**QUEUED, "time": at(number)}).encode())
    store.put("runs/stray/logs/0001/00000000", b"")
    assert [record.run for record in records.ls(store)] == ["a", "c", "b"]
    assert [record.run for record in records.ls(store, name="n0", limit=1)] == ["a"]


def test_a_later_attempt_counts_more_than_an_older_record(store: Store) -> None:
    store.create(keys.job("r1"), json.dumps(JOB).encode())
    first = [{**STARTED, "seq": 1}, {**ended(1), "seq": 2}, {**CLOSED, "seq": 3}]
    for told in first:
        store.create(keys.event("r1", 1, told["seq"]), json.dumps(told).encode())
    record = records.load(store, "r1")
    store.create(keys.record("r1"), json.dumps(folding.fold(JOB, first, {})).encode())
    assert records.ls(store)[0].state == record.state == "failed"
    store.create(keys.event("r1", 2, 1), json.dumps(event("started", 20, 2)).encode())
    assert records.ls(store, now=NOON + 30)[0].state == "running"


MEMORY = "it needed more memory than it was given, and the kernel killed it"


@pytest.mark.parametrize(
    "end",
    [ended(137, "SIGKILL"), ended(137), ended(None, by="client", reason="its container ended: killed by SIGKILL")],
)
@pytest.mark.parametrize("cause", ["memory", "lost"])
def test_what_the_kernel_killed_for_want_of_memory_is_told_in_lists_too(
    store: Store, end: dict[str, Any], cause: str
) -> None:
    """The node says so after the runner has written the record."""
    store.create(keys.job("r1"), json.dumps(JOB).encode())
    parted = event("parted", 10, cause=cause, decision="failed", why=MEMORY)
    events = [STARTED, end, CLOSED]
    if end.get("by") != "client":
        store.create(keys.record("r1"), json.dumps(folding.fold(JOB, events, {})).encode())
    for told in [*events, parted]:
        store.create(keys.event("r1", 1, told["seq"]), json.dumps(told).encode())
    [listed], shown = records.ls(store), records.load(store, "r1")
    assert listed.reason == shown.reason == listed.attempts[0].reason
    assert (listed.reason == MEMORY) is (cause == "memory")
    assert listed.state == ("failed" if end.get("code") == 137 and not end["signal"] else "killed")


def launcher(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "launcher", *args], capture_output=True, text=True)


def test_a_long_parameter_leaves_the_list_readable(store: Store) -> None:
    records.submit(store, {**JOB, "params": {"prompt": "x" * 10_000, "lr": 0.1}})
    row = launcher("ls", "--store", store.url).stdout.splitlines()[1]
    assert row.endswith("lr=0.1 prompt=" + "x" * 37 + "...")


def test_the_command_line_lists_and_shows(store: Store) -> None:
    records.submit(store, {**JOB, "run": "evil-\u001b[31m", "name": "red\u001b[31m\nname"})
    records.submit(store, JOB, code={"commit": "c0ffee" * 6 + "c0ff", "dirty": True})
    place = ("--store", store.url)
    listed = launcher("ls", *place)
    assert (listed.returncode, "\u001b" in listed.stdout) == (0, False), listed.stderr
    assert "evil-\\x1b[31m" in listed.stdout and "red\\x1b[31m\\nname" in listed.stdout
    assert {run["state"] for run in json.loads(launcher("ls", "--json", *place).stdout)} == {"queued"}
    assert len(json.loads(launcher("ls", "--json", "--limit", "1", *place).stdout)) == 1
    assert json.loads(launcher("show", "r", "--json", *place).stdout)["params"] == {"lr": 0.1}
    assert "lr=0.1" in launcher("show", "r1", *place).stdout
    missing = launcher("show", "nothing", *place)
    assert (missing.returncode, "begins with `nothing`" in missing.stderr) == (2, True)
