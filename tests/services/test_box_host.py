"""What keeps a run on a box alive: an engine for an ordinary user who may use it, cron for one who has none."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from launcher import records
from launcher.cache import Cache
from tests.box_trials import Renter, judge
from tests.boxes import Box, Boxes
from tests.clusters import wait_until
from tests.trials import words

pytestmark = [pytest.mark.services, pytest.mark.slow]

STEPS = 12


def renter(boxes: Boxes, box: Box, cache: Cache, home: Path, user: str) -> Renter:
    """Give somebody whose target is a box as one of its users."""
    home.mkdir()
    one = Renter(home=home, place=str(home / "store"), cache=cache.root, ssh_config=boxes.site.home / "ssh_config")
    one.call("target", "add", box.name, "--ssh", f"{box.name}-{user}")
    one.targets[box.name] = box
    return one


def folder(box: Box, user: str, run: str) -> Path:
    return box.root / "home" / user / ".launcher" / "jobs" / run


def wait_for_output(box: Box, user: str, run: str, line: str) -> None:
    out = folder(box, user, run) / "out"
    wait_until(lambda: out.exists() and line.encode() in out.read_bytes(), 120, f"{run} prints {line}")


def phase(box: Box, user: str, run: str) -> str:
    return str(json.loads((folder(box, user, run) / "state.json").read_bytes())["phase"])


def wait_for_end(box: Box, user: str, run: str) -> None:
    """Wait for it without asking the box: a question would wake what is asleep."""
    wait_until(lambda: phase(box, user, run) == "ended", 180, f"{run} ends by itself")


def host_sides(box: Box, run: str) -> list[int]:
    found = [pid for pid in box.processes() if words(pid)[-3:-1] == ["-m", "launcher.box"]]
    return [pid for pid in found if words(pid)[-1].endswith(run)]


def test_the_engine_keeps_the_run_of_an_ordinary_user(boxes: Boxes, shared_cache: Cache, tmp_path: Path) -> None:
    """Its host side is killed while the container goes on: the same attempt, and no line twice; nothing is left."""
    box = boxes.new()
    dora = renter(boxes, box, shared_cache, tmp_path / "dora", "dora")
    run = dora.detached(box, dora.experiment("kept", 1, steps=STEPS))
    wait_for_output(box, "dora", run, "step 2")
    [first] = host_sides(box, run)
    status = Path(f"/proc/{first}/status").read_text()
    assert f"Uid:\t{(box.root / 'home/dora').stat().st_uid}" in status
    assert "CapEff:\t0000000000000000" in status
    daemon = box.processes("sshd")[0]
    assert Path(f"/proc/{first}/ns/pid").readlink() == Path(f"/proc/{daemon}/ns/pid").readlink()
    os.kill(first, signal.SIGKILL)
    wait_for_end(box, "dora", run)
    dora.end(run)
    judge(dora, run, 1, STEPS)
    assert len(records.load(dora.store, run).attempts) == 1
    lines = dora.call("logs", run).splitlines()
    assert [line for line in lines if line.startswith("step ")] == [f"step {k + 1}" for k in range(STEPS)]
    printed = (folder(box, "dora", run) / "out").read_bytes()
    assert printed.count(b"step 7\n") == 1
    wait_until(lambda: not box.engine.docker("ps", "-aq").split(), 30, "no container is left")
    assert not host_sides(box, run)


def test_cron_wakes_the_run_of_a_user_without_an_engine(boxes: Boxes, shared_cache: Cache, tmp_path: Path) -> None:
    """Nobody asks the box between its reboot and the run's end."""
    box = boxes.new(docker=False, cron=True)
    ada = renter(boxes, box, shared_cache, tmp_path / "ada", "ada")
    run = ada.detached(box, ada.experiment("woken", 2, steps=STEPS))
    wait_for_output(box, "ada", run, "step 3")
    assert b"launcher.box.agent wake" in box.exec(["crontab", "-l"], user="ada").stdout
    box.reboot()
    wait_for_end(box, "ada", run)
    ada.end(run)
    judge(ada, run, 2, STEPS)
    assert len(records.load(ada.store, run).attempts) == 2
