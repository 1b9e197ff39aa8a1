"""GPUs of a box are handed out one run at a time, in the order in which runs came; of a cancelled run nothing lives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from launcher import records
from launcher.cache import Cache
from tests.box_trials import WAIT, Renter, alive, judge, open_gate
from tests.boxes import Box, Boxes
from tests.clusters import wait_until
from tests.trials import events_of

pytestmark = [pytest.mark.services, pytest.mark.slow]

STEPS = 8
ONE = ", gpus: 1"
GATED = f"echo waits; {WAIT}; exec python chain_sweep.py {{start}} {{steps}} {{pause}}"
TELLING = "echo on $CUDA_VISIBLE_DEVICES; exec python chain_sweep.py {start} {steps} {pause}"
DEAF = "trap '' TERM HUP INT"
STUBBORN = f'setsid sh -c "{DEAF}; while true; do sleep 1; done" & exec python chain_sweep.py {{start}} 4000 0.5'


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    made = boxes.new()
    made.fake_gpus(1)
    return made


@pytest.fixture(scope="module")
def renter(boxes: Boxes, box: Box, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Renter:
    home = tmp_path_factory.mktemp("queue")
    one = Renter(home=home, place=str(home / "store"), cache=shared_cache.root, ssh_config=box.ssh_config)
    one.add(box)
    return one


def begun(renter: Renter, box: Box, name: str, start: int, steps: int = STEPS, **more: Any) -> str:
    """Start a run that wants the GPU, and let go of it."""
    return renter.detached(box, renter.experiment(name, start, steps=steps, resources=ONE, **more))


def phase(renter: Renter, run: str) -> str:
    """Return what the run's state is, as a person is told."""
    [told] = renter.json("status", run, codes=(0, 1, 3))
    return str(told["state"])


def spans(renter: Renter, run: str) -> list[tuple[str, str, str]]:
    """Return when each attempt began and was over, by its runner's own word, and the run."""
    found = []
    for told in events_of(renter.store, run).values():
        began = [event["time"] for event in told if event["kind"] in ("claimed", "restored", "started")]
        if began:
            found.append((min(began), max(event["time"] for event in told), run))
    return found


def must_not_have_overlapped(renter: Renter, runs: Sequence[str]) -> list[str]:
    """Each attempt was over before the next one began; return whose they were, in that order."""
    found = sorted(span for run in runs for span in spans(renter, run))
    for (_, ended, _), (began, _, _) in itertools.pairwise(found):
        assert ended <= began, found
    return [run for _, _, run in found]


def wait_for_output(box: Box, run: str, line: str) -> None:
    """Wait until it has printed something; asked from behind, as nobody follows it."""
    out = box.root / "root" / ".launcher" / "jobs" / run / "out"
    wait_until(lambda: out.exists() and line.encode() in out.read_bytes(), 120, f"{run} prints {line}")


def test_three_runs_for_one_gpu_run_in_the_order_in_which_they_came(renter: Renter, box: Box) -> None:
    first = begun(renter, box, "first", 0, command=GATED)
    runs = [first, *(begun(renter, box, f"ordered-{k}", k, command=TELLING) for k in (1, 2))]
    wait_until(lambda: {phase(renter, run) for run in runs[1:]} == {"queued"}, 60, "they are told to be in the queue")
    open_gate(box)
    for run in reversed(runs):
        renter.end(run)
    for k, run in enumerate(runs):
        judge(renter, run, k, STEPS)
    assert must_not_have_overlapped(renter, runs) == runs
    told = [renter.call("logs", run).splitlines()[0] for run in runs[1:]]
    assert told == [f"on {box.gpu(0)}"] * 2


def test_one_after_the_other_also_across_a_reboot(renter: Renter, box: Box) -> None:
    """Whoever was first goes on first, whichever host side is up first."""
    runs = [begun(renter, box, "rebooted", 10, command=GATED), begun(renter, box, "behind", 11)]
    wait_for_output(box, runs[0], "waits")
    box.reboot()
    open_gate(box)
    for run in reversed(runs):
        renter.end(run)
    for k, run in enumerate(runs):
        judge(renter, run, 10 + k, STEPS)
    assert must_not_have_overlapped(renter, runs) == [runs[0], *runs]  # its two attempts, then the other
    assert len(records.load(renter.store, runs[0]).attempts) == 2
    assert len(records.load(renter.store, runs[1]).attempts) == 1


def test_cancel_ends_all_processes_and_frees_the_gpu(renter: Renter, box: Box) -> None:
    """Also those that made a session of their own and ignore signals; and one that waits never begins."""
    running = begun(renter, box, "stubborn", 20, command=STUBBORN)
    waiting, following = (begun(renter, box, f"behind-{k}", 21 + k) for k in range(2))
    wait_for_output(box, running, "step 2")
    assert alive(box, DEAF)
    renter.call("cancel", waiting)
    renter.call("cancel", running)
    wait_until(lambda: not alive(box, DEAF) and not alive(box, "chain_sweep.py\x0020"), 60, "all has ended")
    renter.end(following)
    judge(renter, following, 22, STEPS)
    for run in (running, waiting):
        renter.call("pull", run, codes=(0, 1, 3))
        assert (records.load(renter.store, run).attempts[-1].parted or {}).get("cause") == "cancelled", renter.told(run)
    assert not [one for one in records.load(renter.store, waiting).attempts if one.started]
    wait_until(lambda: not box.engine.docker("ps", "-q").split(), 60, "no container is left")
