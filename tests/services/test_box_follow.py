"""Following a run over SSH: output at once, over a line that has gone dead, by both transports; relayed meanwhile."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from launcher import records
from launcher.box.model import State
from launcher.cache import Cache
from launcher.profiles.model import Profile
from launcher.ssh.door import last_sent
from launcher.ssh.following import follow
from tests.box_trials import Renter
from tests.boxes import Box, Boxes
from tests.clusters import wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow]

TIMES = """import os, sys, time
while not os.path.exists("/run/launcher/go"):
    time.sleep(0.05)
for step in range(int(sys.argv[1])):
    time.sleep(float(sys.argv[2]))
    print(step, time.time(), flush=True)
"""


@dataclass
class Heard:
    """What somebody who follows was told, and when."""

    out: bytearray = field(default_factory=bytearray)
    notes: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def output(self, stream: int, data: bytes) -> None:
        now = time.time()
        if stream == 1:
            self.out += data
            printed = data.split()
            if len(printed) == 2 and b"." in printed[1]:
                self.late_s.append(now - float(printed[1]))

    @property
    def steps(self) -> list[int]:
        return [int(line.split()[0]) for line in self.out.splitlines() if line[:1].isdigit()]


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    return boxes.new()


@pytest.fixture(scope="module")
def renter(boxes: Boxes, box: Box, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Renter:
    home = tmp_path_factory.mktemp("follow")
    one = Renter(home=home, place=str(home / "store"), cache=shared_cache.root, ssh_config=box.ssh_config)
    one.add(box)
    return one


@pytest.fixture(autouse=True)
def surroundings(renter: Renter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(renter.ssh_config))
    monkeypatch.setenv("LAUNCHER_CACHE", str(renter.cache))


def begun(renter: Renter, box: Box, name: str, steps: int, pause: float) -> tuple[str, Profile]:
    spec = renter.experiment(name, steps=steps, pause=pause, command="python times.py {steps} {pause}")
    spec.with_name("times.py").write_text(TIMES)
    run = renter.detached(box, spec)
    told = last_sent(renter.store, run)
    assert told is not None and told.ship == "relay"
    return run, Profile(name=box.name, kind="ssh", host=told.host, shared=told.folder, runtime="docker")


@contextlib.contextmanager
def followed(renter: Renter, run: str, profile: Profile) -> Iterator[tuple[Heard, Callable[[], State]]]:
    """Follow a run in a thread; give what it hears, and what waits for its end."""
    heard, ended = Heard(), list[Any]()

    def work() -> None:
        told = {"output": heard.output, "tell": heard.states.append, "note": heard.notes.append}
        try:
            ended.append(follow(profile, run, opened=renter.store, **told))  # type: ignore[arg-type]
        except Exception as e:
            ended.append(e)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def end() -> State:
        thread.join(180)
        assert ended, heard
        if isinstance(ended[0], Exception):
            raise ended[0]
        found: State = ended[0]
        return found

    yield heard, end


def go(box: Box, run: str, heard: Heard) -> None:
    """Let the command begin, now that somebody hears it."""
    inside = box.root / "root" / ".launcher" / "cache" / "runs" / run / "inside"
    wait_until(lambda: heard.states and inside.is_dir(), 120, f"it runs: {heard}")
    (inside / "go").touch()


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_output_comes_at_once_and_the_store_is_whole_at_the_end(
    renter: Renter, box: Box, transport: str, record_property: Callable[..., None]
) -> None:
    run, profile = begun(renter, box, f"at-once-{transport}", 20, 0.3)
    profile = Profile(**{**vars(profile), "transport": transport})
    with followed(renter, run, profile) as (heard, end):
        go(box, run, heard)
        assert end().code == 0
    assert heard.steps == list(range(20))
    record = records.load(renter.store, run)
    assert (record.state, record.complete) == ("succeeded", True)
    late_s = statistics.median(heard.late_s)
    record_property("figures", f"{transport}: a line after {late_s * 1000:.0f} ms")
    assert late_s < 5.0, heard.late_s  # tenths of a second on a machine with nothing else to do


def test_a_dead_line_is_noticed_and_the_output_goes_on_at_the_right_byte(renter: Renter, box: Box) -> None:
    """Nobody says that the connection is gone: nothing comes any more, and that is all."""
    run, profile = begun(renter, box, "dead-line", 60, 0.5)
    with followed(renter, run, profile) as (heard, end):
        go(box, run, heard)
        wait_until(lambda: len(heard.steps) > 3, 60, f"output comes: {heard}")
        box.cut()
        began = time.monotonic()
        try:
            wait_until(lambda: any("is lost" in note for note in heard.notes), 90, f"it is noticed: {heard.notes}")
            noticed_s = time.monotonic() - began
        finally:
            box.join()
        assert end().code == 0
    assert heard.steps == list(range(60))
    assert noticed_s < 60, "the kernel would have taken minutes"
    assert records.load(renter.store, run).complete
    assert not list((renter.cache / "relay").rglob("*.part"))
