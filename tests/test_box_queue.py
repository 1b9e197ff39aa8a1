"""The queue for GPUs on a box: whose turn it is, what is free, and who counts when host sides die."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.box import state
from launcher.box.model import State
from launcher.box.queue import Queue, Waiting
from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.gpu.model import Device, Node
from launcher.runner.clock import stamp
from launcher.spec.model import Gpus
from launcher.target.gpus import Claimed, claim

H100, A10 = "NVIDIA H100 80GB HBM3", "NVIDIA A10"
NODE = Node(
    driver="550.54.15",
    devices=(
        Device(index=0, uuid="GPU-0", model=H100, memory_bytes=80 << 30),
        Device(index=1, uuid="GPU-1", model=H100, memory_bytes=80 << 30),
        Device(index=2, uuid="GPU-2", model=A10, memory_bytes=24 << 30),
    ),
    source="nvml",
)
ONLY = Node(driver=NODE.driver, devices=NODE.devices[:1], source=NODE.source)
ONE, TWO = Gpus(count=1, model=H100), Gpus(count=2, model=H100)
SMALL = Gpus(count=1, model=A10)


class Bench:
    """A box with runs whose host sides live as long as a test wants."""

    def __init__(self, shared: Path, alive: contextlib.ExitStack) -> None:
        self.shared, self.alive = shared, alive
        self.locks = Cache(shared / "locks")
        self.dying: dict[str, contextlib.ExitStack] = {}

    def sign(self, run: str) -> Path:
        return self.shared / "runs" / run / "attempt.json"

    def queue(self, run: str) -> Queue:
        return Queue(str(self.shared), run, self.sign(run), self.locks)

    def live(self, run: str) -> Queue:
        folder = state.folder(str(self.shared), run)
        folder.mkdir(parents=True, exist_ok=True)
        self.dying[run] = self.alive.enter_context(contextlib.ExitStack())
        assert self.dying[run].enter_context(state.held(folder))
        return self.queue(run)

    def die(self, run: str) -> None:
        self.dying[run].close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with contextlib.ExitStack() as alive:
        yield Bench(tmp_path, alive)


def names(found: Claimed | Waiting) -> list[str | None]:
    assert isinstance(found, Claimed), found
    return [device.uuid for device in found.devices]


def place(found: Claimed | Waiting) -> int:
    assert isinstance(found, Waiting)
    return found.place


def test_one_run_for_each_gpu_in_the_order_in_which_they_came(bench: Bench) -> None:
    runs = {name: bench.live(name) for name in "abcd"}
    held = {name: runs[name].take(ONE, NODE) for name in "ab"}
    assert [names(one) for one in held.values()] == [["GPU-0"], ["GPU-1"]]
    third = runs["c"].take(ONE, NODE)
    assert isinstance(third, Waiting)
    assert (third.place, "GPU 0 (NVIDIA H100 80GB HBM3) is held by a" in third.why) == (0, True)
    fourth = runs["d"].take(ONE, NODE)
    assert isinstance(fourth, Waiting)
    assert (fourth.place, fourth.why) == (1, "waiting for 1 GPU, after c")
    assert isinstance(held["a"], Claimed)
    held["a"].release()
    assert place(runs["d"].take(ONE, NODE)) == 1, "it was not its turn"
    assert names(runs["c"].take(ONE, NODE)) == ["GPU-0"]
    assert place(runs["d"].take(ONE, NODE)) == 0


def test_who_wants_many_is_not_overtaken(bench: Bench) -> None:
    first, many, last, other = (bench.live(name) for name in ("a", "many", "last", "other"))
    held = first.take(ONE, NODE)
    assert place(many.take(TWO, NODE)) == 0
    assert place(last.take(ONE, NODE)) == 1, "one is free, but somebody before it waits for it"
    assert names(other.take(SMALL, NODE)) == ["GPU-2"], "nobody before it may get this one"
    assert isinstance(held, Claimed)
    held.release()
    assert names(many.take(TWO, NODE)) == ["GPU-0", "GPU-1"]


def test_the_dead_hold_nobody_up_and_keep_their_place(bench: Bench) -> None:
    first, dead, last = (bench.live(name) for name in ("a", "dead", "last"))
    held = first.take(TWO, NODE)
    assert [place(one.take(ONE, NODE)) for one in (dead, last)] == [0, 1]
    bench.die("dead")
    assert place(last.take(ONE, NODE)) == 0
    again = bench.live("dead")
    assert [place(one.take(ONE, NODE)) for one in (again, last)] == [0, 1]
    assert isinstance(held, Claimed)
    held.release()
    assert place(last.take(ONE, NODE)) == 1
    assert names(again.take(ONE, NODE)) == ["GPU-0"]


def test_after_a_reboot_the_first_is_waited_for_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host sides come up in any order; one whose run is over, or that doesn't come back, is not waited for."""
    first = bench.live("first")
    folder = state.folder(str(bench.shared), "first")
    state.write(folder, State(run="first", phase="running", when=stamp()))
    with contextlib.ExitStack() as running:
        running.callback(got(first.take(ONE, ONLY)).release)
    bench.die("first")
    second = bench.live("second")
    assert isinstance(found := second.take(ONE, ONLY), Waiting)
    assert found.why == "waiting for 1 GPU, after first"
    back = bench.live("first")
    assert isinstance(second.take(ONE, ONLY), Waiting), "the first one is there, and has not asked yet"
    got(back.take(ONE, ONLY)).release()
    bench.die("first")
    monkeypatch.setattr("launcher.box.queue.RETURN_S", 0.0)
    got(second.take(ONE, ONLY)).release()
    monkeypatch.undo()
    state.write(folder, State(run="first", phase="ended", when=stamp(), code=0))
    got(bench.live("third").take(ONE, ONLY)).release()


def got(found: Claimed | Waiting) -> Claimed:
    assert isinstance(found, Claimed), found
    return found


def test_a_container_that_outlives_its_host_side_keeps_its_gpus(bench: Bench) -> None:
    first, second = bench.live("a"), bench.live("b")
    held = first.take(TWO, NODE)
    bench.sign("a").parent.mkdir(parents=True)
    runner = os.open(bench.sign("a"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(runner, fcntl.LOCK_SH)
    assert isinstance(held, Claimed)
    held.release()  # as the kernel does for a process that is killed
    waiting = second.take(ONE, NODE)
    assert isinstance(waiting, Waiting)
    assert "is held by a" in waiting.why
    with pytest.raises(TargetError, match="held are GPU 0"):
        claim(ONE, NODE, "by-hand", bench.locks)
    assert names(bench.queue("a").take_again(["GPU-0", "GPU-1"], NODE)) == ["GPU-0", "GPU-1"]
    os.close(runner)


def test_who_runs_by_hand_and_who_is_in_the_queue_share_the_locks(bench: Bench) -> None:
    by_hand = claim(TWO, NODE, "by-hand", bench.locks)
    queue = bench.live("a")
    waiting = queue.take(ONE, NODE)
    assert isinstance(waiting, Waiting)
    assert "is held by by-hand" in waiting.why
    by_hand.release()
    assert names(queue.take(ONE, NODE)) == ["GPU-0"]


def test_a_place_goes_with_the_run_and_a_damaged_ticket_counts_for_nothing(bench: Bench) -> None:
    first, second = bench.live("a"), bench.live("b")
    assert names(first.take(TWO, NODE)) == ["GPU-0", "GPU-1"]
    assert place(second.take(ONE, NODE)) == 0
    (second.folder / "000000000000-torn").write_text('{"number": 0')
    assert [one.run for one in second.tickets()] == ["a", "b"]
    first.leave()
    assert [(one.number, one.run, one.waits) for one in second.tickets()] == [(2, "b", True)]


def test_what_a_box_can_never_give_is_told(bench: Bench) -> None:
    with pytest.raises(TargetError, match="wants 3 GPUs"):
        bench.live("a").take(Gpus(count=3, model=H100), NODE)
