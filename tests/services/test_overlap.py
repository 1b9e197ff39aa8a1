"""Two attempts of one run at the same time, as real processes: only one commits, and the other says why and ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.runner import claims
from launcher.store import keys
from launcher.store.access import Access
from tests import chain
from tests.attempts import Bench, wait_for
from tests.object_stores import Faulty, ObjectStore
from tests.patience import LONG_S

pytestmark = [pytest.mark.services, pytest.mark.storms]
STEPS, EVERY, PACE_S = 9000, 60, 0.008  # a checkpoint each half second, for more than a minute unless it must hurry
TIMES = {"heartbeat_s": 0.5, "lease_s": 4.0, "flush_s": 60.0, "grace_s": 3.0}
RUN = "run-1"
PATIENCE_S = 60  # of a machine that has other work to do


class Node:
    """A machine of its own that works on the run: its folder and its way to the store."""

    def __init__(self, root: Path, way: ObjectStore, own: ObjectStore) -> None:
        root.mkdir()
        secrets = str(way.write_secrets(root / "secrets.json"))
        self.bench = Bench(
            root / "run", RUN, Access(way.url, way.settings, secrets), Access(own.url, own.settings, secrets)
        )
        shutil.copy(chain.__file__, self.bench.cwd / "chain.py")
        self.process: Any = None
        self.number = 0

    def start(self, attempt: int, claim: str = "wait") -> Node:
        argv = [
            sys.executable,
            "-I",
            "chain.py",
            str(STEPS),
            str(EVERY),
            str(PACE_S),
            "diary",
        ]  # a job is the same everywhere
        self.process, self.number = self.bench.start(argv, attempt, times=TIMES, claim=claim), attempt
        return self

    def pause(self) -> None:
        """Stop the runner and its command where they are, as a suspended or thrashing node would."""
        self.signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)
        for pid in self.commands():
            os.kill(pid, signum)

    def commands(self) -> list[int]:
        """Return the processes that work in this node's folder."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if place.name != str(self.process.pid) and (place / "cwd").readlink() == self.bench.cwd:
                    found.append(int(place.name))
        return found

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the runner's exit code and what it said."""
        _, err = self.process.communicate(timeout=LONG_S)
        return self.process.returncode, err.decode()

    def close(self) -> None:
        """End what a failed test left."""
        if self.process.poll() is None:
            self.process.kill()
        for pid in self.commands():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def committed(self) -> list[str]:
        """Return the names of the manifests that this attempt has made, whether they count or not."""
        listed = [entry.key for entry in self.bench.store.list(keys.checkpoints(RUN))]
        return [key for key in listed if keys.numbers(key)[0] == self.number]

    def has_committed(self) -> Node:
        wait_for(lambda: len(self.committed()) >= 2, PATIENCE_S)
        return self

    def hurry(self) -> Node:
        (self.bench.cwd / chain.HURRY).touch()
        return self

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.bench.events(kind) if event["attempt"] == self.number]


@pytest.fixture
def nodes(tmp_path: Path, faulty_s3: Faulty) -> Iterator[tuple[Node, Node]]:
    """Two nodes; the first one's way to the store is the proxy's."""
    found = (
        Node(tmp_path / "one", faulty_s3, faulty_s3.direct),
        Node(tmp_path / "two", faulty_s3.direct, faulty_s3.direct),
    )
    yield found
    for node in found:
        if node.process is not None:
            node.close()


def said_why(loser: Node) -> None:
    """Hold that the loser told why on its output and in the store, and that its command doesn't go on.

    It may have come to its end while it was away: then the exit code is still the command's.
    """
    code, said = loser.end()
    [ended] = loser.told("ended")
    assert code == ended["code"], said
    assert "superseded by attempt 2" in said, said
    [event] = loser.told("superseded")
    assert event["by"] == 2
    assert not loser.commands()


def only_one_counts(winner: Node) -> None:
    """Hold that what counts is what the winner found and what it made, and that the run came to its right end."""
    code, said = winner.hurry().end()
    assert code == 0, said
    store = winner.bench.store
    [newest] = [told for told in [claims.highest(store, RUN)] if told]
    assert newest["attempt"] == 2
    counting = claims.counting(store, RUN)
    inherited = json.loads(store.get(keys.inherited(RUN, newest["epoch"])))["inherits"]
    assert {key for key in counting if keys.numbers(key)[0] != 2} <= set(inherited)
    assert any(keys.numbers(key)[0] == 2 for key in counting)
    record = winner.bench.record()
    assert (record.state, record.complete) == ("succeeded", True), record
    assert store.get(keys.output(RUN, 2, "digest")).decode() == chain.final(STEPS)
    assert not [entry.key for entry in store.list(keys.outputs(RUN, 1))]
    starts = [
        int(line.split()[1])
        for line in (winner.bench.cwd / "diary").read_text().splitlines()
        if line.startswith("start")
    ]
    assert starts and starts[0] >= EVERY, "it began from what the first attempt had committed"


def pause(one: Node, store: Faulty) -> Callable[[], None]:
    one.pause()
    return one.wake


def cut(one: Node, store: Faulty) -> Callable[[], None]:
    store.proxy.refuse()
    return store.proxy.listen


@pytest.mark.parametrize("away", [pause, cut])
@pytest.mark.parametrize("back", ["while the second one works", "when the second one has ended"])
def test_one_that_was_away_commits_nothing_more_and_says_why(
    nodes: tuple[Node, Node], faulty_s3: Faulty, away: Any, back: str
) -> None:
    one, two = nodes
    one.start(1).has_committed()
    come_back = away(one, faulty_s3)
    before = one.committed()
    two.start(2).has_committed()
    assert waited_s(one.bench) >= TIMES["lease_s"]
    if back.startswith("when"):
        only_one_counts(two)
    come_back()
    said_why(one)
    only_one_counts(two)
    late = set(one.committed()) - set(before)
    assert not late & set(claims.counting(two.bench.store, RUN)) or late <= set(inherited_of(two))


def waited_s(bench: Bench) -> float:
    """Return how long the first attempt had given no sign when the second one took over, by the store's clock."""
    signs = [*bench.store.list(keys.events(RUN, 1)), *bench.store.list(keys.heartbeat(RUN, 1).rpartition("/")[0] + "/")]
    first = [entry.modified for entry in signs if "0001" in entry.key]
    newest = claims.highest(bench.store, RUN)
    assert newest is not None
    return float((newest["modified"] - max(first)).total_seconds())


def inherited_of(node: Node) -> list[str]:
    [event] = node.told("claimed")
    told: list[str] = json.loads(node.bench.store.get(keys.inherited(RUN, event["epoch"])))["inherits"]
    return told


def test_a_manifest_that_comes_minutes_late_counts_for_nobody(nodes: tuple[Node, Node], faulty_s3: Faulty) -> None:
    one, two = nodes
    one.start(1).has_committed()
    late = faulty_s3.proxy.fault("stall", only="^PUT .*/checkpoints/.*manifest.json", times=1, seconds=25.0)
    wait_for(lambda: late.done)
    stalled = faulty_s3.proxy.log[-1].rpartition("/checkpoints/")[2]
    two.start(2, claim="now").has_committed()
    late.over = True
    wait_for(lambda: [key for key in one.committed() if key.endswith(stalled)])
    assert not [key for key in claims.counting(two.bench.store, RUN) if key.endswith(stalled)]
    said_why(one)
    only_one_counts(two)


def test_of_two_runners_of_one_attempt_one_gives_way(nodes: tuple[Node, Node]) -> None:
    """No client starts one attempt twice: a scheduler's mistake could. Their events mix, what they made does not."""
    for node in nodes:
        node.hurry().start(1)
    (code, _), (other, said) = sorted((node.end() for node in nodes), key=lambda end: "runner already" in end[1])
    assert code == 0 and other != 0
    assert "attempt 1 of run-1 has a runner already" in said, said
    store = nodes[0].bench.store
    assert store.get(keys.output(RUN, 1, "digest")).decode() == chain.final(STEPS)
    assert len(store.list(keys.claims(RUN))) == 1


def test_one_that_stops_beating_but_has_ended_is_not_waited_for(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.start(1).has_committed()
    one.process.send_signal(signal.SIGTERM)
    one.end()
    two.start(2).has_committed()
    assert two.told("claimed")[0]["waited_s"] < 1.5
    only_one_counts(two)
