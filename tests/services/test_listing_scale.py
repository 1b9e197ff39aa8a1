"""Lists against a real object store: how much they ask, and what they say when it doesn't answer or take anything."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from benchmarks.synthetic import objects
from launcher import access
from launcher.cli import invoke
from launcher.records import snapshots
from launcher.records.runs import Runs
from launcher.store import keys
from tests.object_stores import Faulty, ObjectStore, WithUsers

pytestmark = pytest.mark.services

RUNS, GOING = 120, 3


def fill(store: ObjectStore, count: int = RUNS) -> None:
    opened = access.open(store.url)
    opened.put_many(objects(count, datetime.now(timezone.utc), going=GOING))


@pytest.fixture
def full(s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    s3.use(monkeypatch)
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCHER_STORE", s3.url)
    monkeypatch.setattr(snapshots, "WORTH", 50)
    fill(s3)
    return s3


def told(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert invoke(list(args)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_every_machine_lists_the_same(
    full: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = told(capsys, "ls", "--all", "--json")
    assert len(json.loads(first)) == RUNS + GOING
    assert [entry.key for entry in access.open(full.url).list(keys.snapshot())], "the first one leaves a snapshot"
    assert told(capsys, "ls", "--all", "--json") == first
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "another"))
    assert told(capsys, "ls", "--all", "--json") == first
    counts = json.loads(told(capsys, "status", "--json"))["counts"]
    assert counts["running"] == GOING and sum(counts.values()) == RUNS + GOING
    assert len(told(capsys, "table", "--csv").splitlines()) == RUNS + GOING + 1


def test_a_run_is_named_by_its_beginning(full: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    newest, *_, oldest = json.loads(told(capsys, "ls", "--all", "--json"))
    assert json.loads(told(capsys, "show", oldest["run"][:15], "--json"))["run"] == oldest["run"]
    assert json.loads(told(capsys, "show", "--json"))["run"] == newest["run"]
    assert "step 19" in told(capsys, "logs", oldest["run"])
    assert invoke(["show", "2"]) == 2
    assert "runs begin with `2`" in capsys.readouterr().err


def test_a_new_run_is_seen_at_once(full: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "ls")
    store = access.open(full.url)
    from launcher import records

    records.submit(store, {"version": 1, "run": "new", "name": "new", "argv": [], "params": {}})
    assert told(capsys, "ls", "--name", "new").splitlines()[1].split()[:3] == ["new", "new", "queued"]


def test_a_store_that_does_not_answer_is_told_from_the_index(
    faulty_s3: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty_s3.use(monkeypatch)
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    fill(faulty_s3, 10)
    told(capsys, "ls", "--store", faulty_s3.url)
    with_index = subprocess.run(
        [sys.executable, "-m", "launcher", "ls", "--store", faulty_s3.url, "--all"], capture_output=True, text=True
    )
    assert with_index.returncode == 0 and with_index.stderr == ""
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.endpoint)
    faulty_s3.proxy.refuse()
    assert invoke(["ls", "--store", faulty_s3.url, "--all"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: ") and "as of 20" in said.err
    states = {line.split()[2] for line in said.out.splitlines()[1:]}
    assert "unknown" in states and "running" not in states
    assert len(said.out.splitlines()) == len(with_index.stdout.splitlines())


def test_a_reader_without_the_right_to_write_lists_and_says_nothing(
    s3_with_users: WithUsers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    s3_with_users.use(monkeypatch)
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(snapshots, "WORTH", 5)
    fill(s3_with_users, 20)
    s3_with_users.read_only.use(monkeypatch)
    for _ in range(2):
        assert invoke(["ls", "--store", s3_with_users.url]) == 0
        assert "warning" not in capsys.readouterr().err
    s3_with_users.wrong.use(monkeypatch)
    assert invoke(["ls", "--store", s3_with_users.url]) == 77, "a wrong secret is no outage"


def test_a_warm_list_asks_little(full: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = access.open(full.url)
    with Runs(full.url, store, tmp_path / "index") as runs:
        runs.update()
        asked: list[str] = []
        real = store.call
        monkeypatch.setattr(store, "call", lambda key, ask: (asked.append(key), real(key, ask))[1])
        runs.update()
        assert len(runs.select()) == RUNS + GOING
        assert len(asked) == 1 + 2 * GOING, "the journal; of each that runs the next event and the heartbeat"
