"""Whatever happens to a box, to the way there or to who follows: the run ends with the checkpoint of an undisturbed
one, and nothing is sent twice but the piece in flight."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from launcher import records
from launcher.cache import Cache
from tests.box_trials import Client, Renter, judge, on_it
from tests.boxes import Box, Boxes
from tests.clusters import wait_until
from tests.object_stores import ObjectStore, moto, new_bucket
from tests.patience import LONG_S
from tests.trials import words

pytestmark = [pytest.mark.services, pytest.mark.slow]

STEPS = 16
SEED = int(os.environ.get("LAUNCHER_SEED", "1"))
DROPS = 10
PIECE = 1 << 20  # what may be on its way when a line drops, and is sent again: windows, buffers, requests
STARTS = itertools.count(100)
MODES = ("relay", "direct")


@pytest.fixture(scope="module")
def bucket(boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A bucket that boxes reach by their cables only."""
    with moto(tmp_path_factory.mktemp("moto"), boxes.site.host_address) as server:
        yield new_bucket(server)


@pytest.fixture(scope="module")
def people(
    boxes: Boxes, bucket: ObjectStore, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Renter]:
    """Two renters: the box of one can't reach the store, a folder at home; that of the other writes to it itself."""
    config = boxes.site.home / "ssh_config"
    homes = {mode: tmp_path_factory.mktemp(mode) for mode in MODES}
    same = {"cache": shared_cache.root, "ssh_config": config}
    relay = Renter(home=homes["relay"], place=str(homes["relay"] / "store"), **same)
    direct = Renter(home=homes["direct"], place=bucket.url, bucket=bucket, **same)
    return {"relay": relay, "direct": direct}


@pytest.fixture(scope="module")
def box(boxes: Boxes, people: dict[str, Renter]) -> Box:
    """A box that has the image."""
    return rented(boxes, people.values())


def rented(boxes: Boxes, renters: Iterable[Renter]) -> Box:
    made = boxes.new()
    for renter in renters:
        renter.add(made)
    return made


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run that is under way, and who follows it."""

    renter: Renter
    box: Box
    client: Client
    run: str
    start: int

    @property
    def attempts(self) -> Sequence[records.Attempt]:
        return records.load(self.renter.store, self.run).attempts

    def must_have_ended(self, steps: int = STEPS) -> None:
        judge(self.renter, self.run, self.start, steps)
        said = [line for line in self.client.lines if line.startswith("step ")]
        assert set(said) == {f"step {k}" for k in range(1, steps + 1)}, said
        if len(self.attempts) == 1:
            assert len(said) == steps, f"lines came twice: {said}"


@contextlib.contextmanager
def underway(renter: Renter, box: Box, name: str, *, steps: int = STEPS, begun: int = 3) -> Iterator[Trial]:
    """Run a chain on a box; go on when its follower has seen some steps."""
    start = next(STARTS)
    spec = renter.experiment(f"{name}-{start}", start, steps=steps)
    with on_it(renter, box, spec) as client:
        run = client.run()
        client.wait_for(f"step {begun}")
        yield Trial(renter=renter, box=box, client=client, run=run, start=start)


Fault = Callable[[Trial], None]


def drop_line(trial: Trial) -> None:
    trial.box.drop(4)


def restart_sshd(trial: Trial) -> None:
    trial.box.restart_sshd()


def restart_engine(trial: Trial) -> None:
    trial.box.engine.restart()


def kill_engine(trial: Trial) -> None:
    trial.box.engine.kill()
    time.sleep(2)
    trial.box.engine.start()


def kill_host_side(trial: Trial) -> None:
    [pid] = host_sides(trial)
    os.kill(pid, signal.SIGKILL)


def reboot(trial: Trial) -> None:
    trial.box.reboot()


def host_sides(trial: Trial) -> list[int]:
    """Return the ids of what `python -m launcher.box FOLDER` runs as: the interpreter itself."""
    found = [pid for pid in trial.box.processes() if words(pid)[-3:-1] == ["-m", "launcher.box"]]
    return [pid for pid in found if words(pid)[-1].rstrip("/").endswith(trial.run)]


NEXT = "goes on in the next attempt"
SAME = "goes on as it was"
EITHER = "goes on as it was, or in the next attempt"
FAULTS: list[tuple[Fault, str, str]] = [
    (drop_line, "relay", SAME),
    (restart_sshd, "direct", SAME),
    (kill_host_side, "relay", EITHER),
    (restart_engine, "relay", NEXT),
    (kill_engine, "direct", EITHER),
    (reboot, "relay", NEXT),
    (reboot, "direct", NEXT),
]


@pytest.mark.parametrize(("fault", "mode", "then"), FAULTS, ids=[f"{one.__name__}-{mode}" for one, mode, _ in FAULTS])
def test_a_run_outlives(people: dict[str, Renter], box: Box, fault: Fault, mode: str, then: str) -> None:
    """Who follows it needs to do nothing."""
    with underway(people[mode], box, f"{fault.__name__.replace('_', '-')}-{mode}") as trial:
        fault(trial)
        code = trial.client.ended()
        assert code == 0, f"{code}: {trial.client.said}\n{trial.renter.told(trial.run)}"
        trial.must_have_ended()
        many = len(trial.attempts)
        assert {SAME: many == 1, NEXT: many >= 2, EITHER: many >= 1}[then], f"{many} attempts"


def test_a_run_needs_nobody_who_follows(people: dict[str, Renter], box: Box) -> None:
    """Its client is killed; who comes back later gets everything."""
    with underway(people["relay"], box, "alone") as trial:
        trial.client.kill()
        time.sleep(3)
        again = Client(trial.renter, "attach", trial.run)
        assert again.ended() == 0, f"{again.said}\n{trial.renter.told(trial.run)}"
        assert [line for line in again.lines if line.startswith("step ")] == [f"step {k + 1}" for k in range(STEPS)]
        judge(trial.renter, trial.run, trial.start, STEPS)
        assert len(trial.attempts) == 1


@pytest.fixture(scope="module")
def undisturbed(boxes: Boxes, people: dict[str, Renter]) -> int:
    """Return how many bytes a box gets for the run of `test_a_line_that_drops`, when nothing happens."""
    fresh = rented(boxes, [people["relay"]])
    before = fresh.bytes()[0]
    with underway(people["relay"], fresh, "undisturbed", steps=2 * STEPS) as trial:
        assert trial.client.ended() == 0, trial.client.said
    trial.must_have_ended(2 * STEPS)
    fresh.off()
    return fresh.bytes()[0] - before


@pytest.mark.parametrize("mode", MODES)
def test_a_line_that_drops_ten_times_costs_no_more_than_what_was_on_it(
    people: dict[str, Renter], boxes: Boxes, undisturbed: int, mode: str, record_property: Callable[..., None]
) -> None:
    """At random moments: half of them while the image is sent, half while the run goes on."""
    draw = random.Random(f"{SEED} {mode}")
    renter, start = people[mode], next(STARTS)
    fresh = rented(boxes, [renter])
    before = fresh.bytes()[0]
    fresh.line(1, 60)
    spec = renter.experiment(f"drops-{mode}", start, steps=2 * STEPS)
    with on_it(renter, fresh, spec) as client:
        wait_until(lambda: fresh.bytes()[0] - before > 2 << 20, 60, "the delivery has begun")
        dropped = 0
        for k in range(DROPS):
            time.sleep(draw.uniform(0.1, 1.5))
            dropped += k < DROPS // 2 and not client.lines
            fresh.drop(draw.uniform(0.1, 2.0))
            if k + 1 == DROPS // 2:
                client.wait_for("step 1")
        assert client.ended() == 0, f"{client.said}\nseed {SEED}"
        judge(renter, client.run(), start, 2 * STEPS)
    sent = fresh.bytes()[0] - before
    fresh.off()
    record_property(
        "figures", f"{sent >> 10} KiB, undisturbed {undisturbed >> 10} KiB; {dropped} drops in the delivery"
    )
    assert dropped >= 2, "the delivery was over too soon"
    assert sent < 1.02 * undisturbed + DROPS * PIECE, f"{sent} bytes, undisturbed {undisturbed}; seed {SEED}"


@pytest.mark.parametrize(("mode", "warned"), [("relay", False), ("direct", True)], ids=["suddenly", "warned"])
def test_a_run_goes_on_elsewhere_when_its_box_is_taken_away(
    people: dict[str, Renter], boxes: Boxes, box: Box, mode: str, warned: bool
) -> None:
    """With a last checkpoint where there was a warning; and the first box changes nothing when it comes back."""
    renter, steps = people[mode], 2 * STEPS
    other = second(boxes, people)
    with underway(renter, box, "taken", steps=steps, begun=5) as trial:
        renter.wait_for_step(trial.run, 4)
        if warned:
            for pid in host_sides(trial):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: trial.attempts[-1].parted or trial.attempts[-1].ended, 60, "it has made way")
        box.off()
        saved = renter.steps_of(trial.run)
        trial.client.kill()
    try:
        again = resumed(renter, trial.run, other)
        assert again.ended() == 0, f"{again.said}\n{renter.told(trial.run)}"
        begun = next(line for line in again.lines if line.startswith("begins at step "))
        assert int(begun.split()[-1]) >= saved - 1, f"{begun}, and {saved} were saved"
        judge(renter, trial.run, trial.start, steps)
    finally:
        box.on()
    time.sleep(5)
    renter.call("pull", trial.run, codes=(0, 1, 3, 75))
    record = judge(renter, trial.run, trial.start, steps)
    assert record.attempts[-1].state == "succeeded"
    # Its credentials went with the box's memory, and nobody brings any for a run that was sent elsewhere since.
    renter.call("cancel", trial.run, "--on", box.name, codes=(0, 1))
    judge(renter, trial.run, trial.start, steps)


def resumed(renter: Renter, run: str, other: Box) -> Client:
    """Have a run go on elsewhere; that is refused as long as its last sign of life is fresh."""
    until = time.monotonic() + LONG_S
    while True:
        client = Client(renter, "resume", run, "--on", other.name)
        if client.started_or_over() or time.monotonic() > until:
            return client
        client.ended()
        assert "no sign of life" in client.said, client.said
        time.sleep(3)


def second(boxes: Boxes, people: dict[str, Renter]) -> Box:
    """Return a box that both rent too, made once."""
    for name, made in people["relay"].targets.items():
        if name == "second":
            return made
    made = boxes.new("second")
    for renter in people.values():
        renter.add(made)
    return made


def test_no_run_is_left(people: dict[str, Renter], box: Box) -> None:
    """Neither a keeper nor a process of ours is on a box when all its runs are over."""
    try:
        wait_until(lambda: not box.engine.docker("ps", "-q").split(), 60, "no container runs")
    except AssertionError as e:
        stays = box.engine.docker("ps", "--format", "{{.Names}} {{.Status}}").splitlines()
        logs = [f"{one.split()[0]}: {host_log(box, one.split()[0])}" for one in stays]
        raise AssertionError(f"{e}: {stays}\n" + "\n".join(logs)) from e
    left = [words(pid) for pid in box.processes() if "launcher" in " ".join(words(pid))]
    assert not left


def host_log(box: Box, container: str) -> str:
    """Return how the run of a container stands on its box, and the last that its host side said."""
    folder = (
        box.root / "root" / ".launcher" / "jobs" / container.removeprefix("launcher-keep-").removeprefix("launcher-")
    )
    told = [
        path.read_text(errors="replace")[-3000:] for name in ("state.json", "log") if (path := folder / name).exists()
    ]
    return "\n".join(told)
