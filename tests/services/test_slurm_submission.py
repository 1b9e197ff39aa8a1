"""Submitting to a real Slurm: limits, crashes, a scheduler that doesn't answer. Its host side is a bit of shell."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.slurm import cancelling
from launcher.slurm.states import look
from tests.clusters import Cluster, started, wait_until
from tests.patience import LONG_S
from tests.submissions import MOMENTS, SWEEP, Errand, errand

pytestmark = [pytest.mark.services, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIMIT, MAX_ARRAY = 20, 11
HOST_SIDE = """#!/bin/bash
# -I -u -m launcher.node ORDER
folder=${5%.json}; task=${SLURM_ARRAY_TASK_ID:-0}; lab=$(dirname "$0")
echo '{"decision": "running"}' >"$folder/$task.state.json"
echo "$(date +%s.%N) begin $(basename "$folder") $task $$ $(hostname)" >>"$lab/log"
sleep "$(cat "$lab/sleep")"
echo "$(date +%s.%N) end $(basename "$folder") $task" >>"$lab/log"
echo '{"decision": "done"}' >"$folder/$task.state.json"
"""


@pytest.fixture(scope="module")
def small() -> Iterator[Cluster]:
    """Give a cluster that takes few jobs of a user, and short arrays."""
    with started("--max-submit", str(LIMIT), "--set", f"MaxArraySize={MAX_ARRAY}") as one:
        yield one


Make = Callable[..., Errand]


@pytest.fixture
def make(small: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("SLURM_CONF", small.environment["SLURM_CONF"])
    home = small.shared / f'it\'s a $({tmp_path.name}) "x"'

    def made(points: int, seconds: float = 0.0, **more: Any) -> Errand:
        asked = errand(home, points, **more)
        tools = Path(asked.order.tools) / "bin"
        tools.mkdir(parents=True, exist_ok=True)
        (tools / "sleep").write_text(str(seconds))
        (tools / "python").write_text(HOST_SIDE)
        (tools / "python").chmod(0o755)
        return asked

    yield made
    small.slurm("scancel", "-u", "root", check=False)
    wait_until(lambda: not small.slurm("squeue", "-h", check=False).strip(), 60, "the queue is empty")


def lines(asked: Errand) -> list[list[str]]:
    log = Path(asked.order.tools) / "bin" / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def states(asked: Errand) -> Counter[str]:
    found = look(asked.ledger, asked.door)
    return Counter(seen.state for seen in (found.seen or {}).values())


def to_the_end(asked: Errand, seconds: float = 120) -> None:
    """Wait as `launcher wait` does: what waits for the limit is brought forward."""

    def over() -> bool:
        asked.repair()
        return states(asked) == Counter({"gone": len(asked.plan)})

    wait_until(over, seconds, "all tasks are gone")


def ran(asked: Errand) -> Counter[int]:
    """Return how often each point ran."""
    groups = {one.token: one.groups for one in asked.ledger.submissions}
    begun = [groups[token][int(task)] for _, what, token, task, *_ in lines(asked) if what == "begin"]
    return Counter(point for group in begun for point in group)


def most_at_once(asked: Errand) -> int:
    now = most = 0
    for _, what, *_ in sorted(lines(asked)):
        now += 1 if what == "begin" else -1
        most = max(most, now)
    return most


def test_more_points_than_the_site_takes_at_once_go_through(make: Make) -> None:
    asked = make(50, 0.3, profile={"max_array": MAX_ARRAY, "max_submit": LIMIT})
    report = asked.submit()
    assert report.waiting and report.limit and "MaxSubmitJob" in report.limit
    assert 0 < report.points(report.placed) <= LIMIT
    to_the_end(asked)
    assert ran(asked) == Counter(range(50))


def test_limits_that_no_profile_knows_are_found(make: Make) -> None:
    asked = make(40, 0.1)
    asked.submit()
    assert all(len(one.groups) <= MAX_ARRAY for one, _ in asked.ledger.taken)
    to_the_end(asked)
    assert ran(asked) == Counter(range(40))


def test_a_throttle_holds_over_all_arrays(make: Make) -> None:
    asked = make(18, 0.5, profile={"max_array": 5}, max_parallel=3)
    asked.submit()
    to_the_end(asked)
    assert ran(asked) == Counter(range(18))
    assert most_at_once(asked) <= 3
    asked.submit([4])  # begins after arrays that Slurm may have forgotten
    wait_until(lambda: ran(asked)[4] == 2, 60, "the point has run again")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_submit_that_was_killed_is_repaired(small: Cluster, make: Make, moment: str) -> None:
    asked = make(3)
    argv = [sys.executable, "-m", "tests.submissions", str(asked.folder), "3", moment]
    done = subprocess.run(argv, cwd=ROOT, env=small.environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    asked.submit([point for point in range(3) if point not in asked.ledger.tasks], known=asked.ledger)
    to_the_end(asked)
    assert ran(asked) == Counter(range(3))


def test_a_host_side_that_is_killed_runs_again_and_nobody_calls_it_gone(small: Cluster, make: Make) -> None:
    asked = make(1, 3)
    asked.submit()
    wait_until(lambda: lines(asked), 60, "it runs")
    _, _, _, _, pid, node = lines(asked)[0]
    small.node(int(node.removeprefix("node"))).exec("kill", "-9", pid)
    until = time.monotonic() + LONG_S
    while ran(asked)[0] < 2:
        assert states(asked)["gone"] == 0, "it was called gone while Slurm had it"
        assert time.monotonic() < until
        time.sleep(0.1)
    to_the_end(asked)


def test_without_an_answer_nothing_is_known_and_nothing_is_done(small: Cluster, make: Make) -> None:
    asked = make(2, 5)
    asked.submit()
    wait_until(lambda: len(lines(asked)) == 2, 60, "both run")
    time.sleep(2)  # Slurm holds a job whose node it lost sight of in its first second
    small.stop("slurmctld")
    try:
        found = look(asked.ledger, asked.door)
        assert found.seen is None or {seen.state for seen in found.seen.values()} <= {"pending", "running", "unknown"}
        report = asked.submit([])
        assert not report.placed and not report.found
        late = make(2, 5)
        unknown = late.submit([1])
        assert unknown.unknown and not unknown.placed
    finally:
        small.start("slurmctld")
    small.ready()
    to_the_end(asked)
    assert ran(asked) == Counter({0: 1, 1: 2})


def test_without_accounting_states_are_the_same(small: Cluster, make: Make) -> None:
    small.stop("slurmdbd")
    try:
        asked = make(3, 1, profile={"accounting": False})
        asked.submit()
        to_the_end(asked)
        assert ran(asked) == Counter(range(3))
    finally:
        small.start("slurmdbd")


def test_cancelling_ends_what_runs_and_drops_what_waits(make: Make) -> None:
    asked = make(30, 20, profile={"max_array": 10})
    asked.submit()
    wait_until(lambda: states(asked)["running"] > 2, 60, "some run")
    found = cancelling.cancel(asked.store, SWEEP, range(30), doors=[asked.door])
    assert not found.complaints
    wait_until(lambda: set(states(asked)) == {"gone"}, 60, "all are gone")
    assert not asked.ledger.open
    assert not asked.repair().placed


def test_why_a_point_waits_is_told_in_plain_words(make: Make) -> None:
    asked = make(16, 20, profile={"max_array": 10}, max_parallel=1)
    asked.submit()

    def words() -> set[str]:
        seen = look(asked.ledger, asked.door).seen or {}
        return {told.reason for told in seen.values() if told.reason}

    wait_until(lambda: any("max_parallel" in one for one in words()), 60, "a throttled task says so")
    cancelling.cancel(asked.store, SWEEP, range(16), doors=[asked.door])
