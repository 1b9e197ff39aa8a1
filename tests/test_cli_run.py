"""`launcher run` from its image on: codes, signals, the last line, and what a killed launcher leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from launcher import records, store, target
from launcher.cache import Cache
from launcher.cli.rerun import refuse_to_resume
from launcher.records import Attempt, Record
from launcher.store import keys
from launcher.target.model import StillRunning
from tests.rootfs import tiny_image

DRIVER = [sys.executable, "-m", "tests.run_driver"]
TOP = Path(__file__).parents[1]


class Stage:
    """Everything that a run needs, in one folder."""

    def __init__(self, folder: Path, cache: Cache) -> None:
        self.image, self.cache, self.folder = tiny_image(cache), cache, folder
        self.store = store.open(str(folder / "store"))
        (folder / "code").mkdir()

    def command(self, script: str, *words: str, attempt: int = 1, run: str = "r") -> list[str]:
        told = {
            "cache": str(self.cache.root),
            "store": str(self.folder / "store"),
            "code": str(self.folder / "code"),
            "layers": [{**asdict(layer), "path": str(layer.path)} for layer in self.image.layers],
            "image": self.image.id,
            "config": self.image.config.decode(),
            "argv": ["python3", "-c", script, *words],
            "attempt": attempt,
            "run": run,
        }
        (self.folder / "told.json").write_text(json.dumps(told))
        return [*DRIVER, str(self.folder / "told.json")]

    def start(self, script: str, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        command = self.command(script, *words, **more)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TOP)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("run-cache"))


@pytest.fixture
def stage(tmp_path: Path, cache: Cache) -> Stage:
    return Stage(tmp_path, cache)


@pytest.mark.parametrize(("code", "state"), [(0, "succeeded"), (3, "failed")])
def test_code_output_and_last_line(stage: Stage, code: int, state: str) -> None:
    script = f"import os, sys; os.write(1, b'out\\x00\\xff'); os.write(2, b'err\\n'); sys.exit({code})"
    process = stage.start(script)
    out, err = process.communicate()
    assert process.returncode == code
    assert out == b"out\0\xff"
    first, last = [line for line in err.decode().splitlines() if not line.startswith("launcher: storing")]
    assert first == "err"
    assert last.startswith(f"r: {state}")
    assert last.endswith(f"; next: launcher show r --store {stage.folder / 'store'}")
    assert not list((stage.cache.root / "runs").glob("r*"))


def test_what_is_not_in_the_store_is_told_with_its_place(stage: Stage) -> None:
    process = stage.start("import os; os.mkfifo(os.environ['LAUNCHER_OUTPUT_DIR'] + '/pipe')", run="pipe")
    _, err = process.communicate()
    place = stage.cache.root / "runs" / "pipe"
    assert f"not everything is in the store, the rest is in {place}; next:" in err.decode()
    assert (place / "inside" / "outputs" / "pipe").exists()


def test_a_store_that_vanishes_is_told_after_the_end(stage: Stage) -> None:
    go = "os.path.exists(os.environ['LAUNCHER_OUTPUT_DIR'] + '/go')"
    script = f"import os, time\nprint('up', flush=True)\nwhile not {go}: time.sleep(0.02)\n"
    process = stage.start(script, run="lost")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    (stage.folder / "store").rename(stage.folder / "moved")
    (stage.cache.root / "runs" / "lost" / "inside" / "outputs" / "go").touch()
    _, err = process.communicate()
    assert b"lost ended (exit code 0), and its record can't be read: there is no run `lost`" in err


def test_with_json_the_record_is_all_of_stdout(stage: Stage) -> None:
    command = stage.command("print('hello'); raise SystemExit(3)", run="json")
    told = json.loads((stage.folder / "told.json").read_text())
    (stage.folder / "told.json").write_text(json.dumps({**told, "json": True}))
    done = subprocess.run(command, capture_output=True, cwd=TOP)
    assert (done.returncode, json.loads(done.stdout)["exit"]["code"]) == (3, 3)
    assert done.stderr.startswith(b"hello\n")


def test_interrupt_is_passed_on(stage: Stage) -> None:
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    process = stage.start(script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 5, err
    assert records.load(stage.store, "r").attempts[-1].asked_to_stop == "SIGINT"


def test_interrupts_that_change_nothing_kill_in_the_end(stage: Stage) -> None:
    script = "import signal\nsignal.signal(2, signal.SIG_IGN)\nprint('up', flush=True)\nwhile True: signal.pause()"
    process = stage.start(script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    begun = time.monotonic()
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    process.communicate()
    assert time.monotonic() - begun < 25, "and not the grace, which is 30 s"
    assert process.returncode == 137
    record = records.load(stage.store, "r")
    assert (record.state, record.reason) == ("killed", "it was killed at the interrupt number 3")


def test_dead_runner_is_recorded(stage: Stage) -> None:
    process = stage.start("import os, signal; print('up', flush=True); os.kill(os.getppid(), 9); signal.pause()")
    _, err = process.communicate()
    assert process.returncode == 137, err
    record = records.load(stage.store, "r")
    assert record.state == "killed"
    assert "the runner ended: killed by SIGKILL" in (record.reason or "")


WAIT = "import time; print('up', flush=True); time.sleep(30)"


def test_resuming_a_run_that_runs_changes_nothing(stage: Stage) -> None:
    first = stage.start(WAIT)
    assert first.stdout is not None
    assert first.stdout.readline() == b"up\n"
    second = stage.start(WAIT, attempt=2)
    _, err = second.communicate()
    assert b"is running on this machine" in err
    assert not stage.store.list(keys.events("r", 2))
    assert records.load(stage.store, "r").state == "running"
    first.terminate()
    first.communicate()
    assert records.load(stage.store, "r").reason == "asked to stop by SIGTERM, ended by SIGTERM"


def test_an_attempt_that_somebody_else_queued_is_left_to_them(stage: Stage) -> None:
    done = stage.start("pass")
    done.communicate()
    job = json.loads(stage.store.get(keys.job("r")))
    records.submit(stage.store, job, attempt=2)
    before = [entry.key for entry in stage.store.list()]
    other = stage.start("pass", attempt=2)
    _, err = other.communicate()
    assert b"somebody else has begun attempt 2 of r" in err
    assert [entry.key for entry in stage.store.list()] == before


def test_a_run_that_goes_on_elsewhere_is_not_resumed(stage: Stage) -> None:
    first = stage.start("import os, signal; os.kill(os.getppid(), 9); signal.pause()")
    first.communicate()
    here, elsewhere = (target.open("local", Cache(root)) for root in (stage.cache.root, stage.folder / "another"))
    record = Record(run="r", state="running", attempts=(Attempt(attempt=1, state="running"),))
    for told in (record, replace(record, state="queued")):
        with pytest.raises(StillRunning, match=f"r is {told.state}, and this machine"):
            refuse_to_resume(told, elsewhere)
        refuse_to_resume(told, here)  # what was started here would hold its lock
    with pytest.raises(StillRunning):
        refuse_to_resume(replace(record, attempts=(Attempt(attempt=2, state="running"),)), here)


@pytest.mark.parametrize(("state", "silent_s", "free"), [("running", 20, 0), ("running", 40, 1), ("queued", 100, 0)])
def test_one_that_went_silent_elsewhere_may_be_resumed(tmp_path: Path, state: Any, silent_s: int, free: bool) -> None:
    """Its claim on the run, and not this look, decides whether two can write; so half a minute is enough."""
    sign = (datetime.now(timezone.utc) - timedelta(seconds=silent_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    last = Attempt(attempt=1, state=state, queued=sign, last_sign=sign)
    record, elsewhere = Record(run="r", state=state, attempts=(last,)), target.open("local", Cache(tmp_path))
    with contextlib.nullcontext() if free else pytest.raises(StillRunning, match="no sign of life for"):
        refuse_to_resume(record, elsewhere)


TRAIN = """
import os, pathlib, sys, time
place = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT_DIR"], "state")
step, value = map(int, place.read_text().split()) if place.exists() else (0, 1)
while step < 300:
    step, value = step + 1, (value * 31 + step) % 1000003
    place.with_suffix(".tmp").write_text(f"{step} {value}")
    place.with_suffix(".tmp").rename(place)
    time.sleep(float(sys.argv[1]))
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "result").write_text(str(value))
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed(stage: Stage) -> None:
    """25 times SIGKILL to the launcher; the attempt that is left alone ends with the undisturbed result."""
    chance = random.Random(2)
    for _ in range(25):
        process = stage.start(TRAIN, "0.03", attempt=records.next_attempt(stage.store, "r"))
        time.sleep(chance.uniform(0.2, 1.2))
        process.kill()
        process.communicate()
    assert records.load(stage.store, "r").state != "succeeded"
    number = records.next_attempt(stage.store, "r")
    process = stage.start(TRAIN, "0.03", attempt=number)
    _, err = process.communicate()
    assert process.returncode == 0, err
    for entry in stage.store.list("runs/r/"):
        if entry.key.endswith(".json"):
            json.loads(stage.store.get(entry.key))
    assert stage.store.get(keys.output("r", number, "result")) == str(expected()).encode()
    record = records.load(stage.store, "r")
    assert (record.state, record.complete) == ("succeeded", True)
    assert {attempt.state for attempt in record.attempts[:-1]} <= {"killed", "unknown"}
    assert list((stage.cache.root / "tmp").iterdir()) == []


def expected() -> int:
    step, value = 0, 1
    while step < 300:
        step, value = step + 1, (value * 31 + step) % 1000003
    return value


def test_the_first_ctrl_c_is_answered_on_a_terminal(stage: Stage) -> None:
    script = "import signal\nsignal.signal(2, signal.SIG_IGN)\nprint('up', flush=True)\nwhile True: signal.pause()"
    command = stage.command(script, run="ctrl-c")
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, stdin=follower, stdout=subprocess.PIPE, stderr=follower, cwd=TOP)
    os.close(follower)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    said = b""
    while b"kills it" not in said:
        said += os.read(leader, 4096)
    assert b"the command was asked to stop; Ctrl-C once more kills it" in said
    time.sleep(1.1)
    process.send_signal(signal.SIGINT)
    process.communicate()
    os.close(leader)
    assert records.load(stage.store, "ctrl-c").reason == "was asked to stop again after SIGINT, so it was killed"
