"""The runner: signals reach the command, grace has an end, and orphans are looked after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from tests.attempts import Bench, wait_for
from tests.patience import LONG_S

NOTED = """
def note(number, frame):
    print('got', signal.Signals(number).name, flush=True)
    if number in STOP: sys.exit(9)
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
for number in (*STOP, signal.SIGUSR1, signal.SIGUSR2): signal.signal(number, note)
print('ready', flush=True)
while True: time.sleep(0.05)
"""
DEAF = """
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(60)
"""
FLOOD = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
print('ready', flush=True)
while True: os.write(1, b'x' * 4096)
"""
ORPHANS = """
import pathlib
for n in range(50): os.system('sh -c "sleep 0.1 &"')
def states():
    for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
        try: yield path.read_text().split(')')[1].split()[0]
        except OSError: continue
end = time.monotonic() + (20 if os.getppid() == 1 else 0)
while len(list(states())) > 2 and time.monotonic() < end: time.sleep(0.05)
print(list(states()).count('Z'), os.getppid())
"""
GROUP = """
trap 'wait; echo outer; exit 4' TERM
sh -c 'trap "echo inner; exit 0" TERM; echo ready; while :; do sleep 0.05; done' &
wait; wait
"""
SHELL = """sh -c 'trap "{}" TERM; echo ready; while :; do sleep 0.05; done'; true"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


def ready(bench: Bench, script: str, **told: Any) -> Any:
    process = bench.start(bench.script(script), **told)
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_user_signal_is_passed_on(bench: Bench, number: signal.Signals) -> None:
    with ready(bench, NOTED) as process:
        process.send_signal(number)
        assert process.stdout.readline() == f"got {number.name}\n".encode()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    told = [(event["signal"], event["stops"], event["forwarded"]) for event in bench.events("signal")]
    assert told == [(number.name, False, True), ("SIGTERM", True, True)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_gives_the_command_time_and_its_code_comes_back(bench: Bench, number: signal.Signals) -> None:
    with ready(bench, NOTED) as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=LONG_S)
    assert (out, process.returncode) == (f"got {number.name}\n".encode(), 9)
    record = bench.record()
    assert (record.state, record.reason) == ("killed", f"asked to stop by {number.name}, ended with code 9")
    assert record.complete


def test_the_default_action_of_a_signal_is_the_commands(bench: Bench) -> None:
    with ready(bench, "print('ready', flush=True)\ntime.sleep(60)") as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    assert process.returncode == 143
    assert bench.record().exit == {"code": 143, "signal": "SIGTERM"}


def test_after_the_grace_a_deaf_command_is_killed(bench: Bench) -> None:
    with ready(bench, DEAF, times={"grace_s": 0.5}) as process:
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    assert 0.4 < time.monotonic() - begun < 25, "and not 30 s, or the minute that it would take itself"
    assert process.returncode == 137
    assert "did not end in time after SIGTERM" in (bench.record().reason or "")


def test_a_second_signal_at_once_is_the_first_one_again_and_a_later_one_kills(bench: Bench) -> None:
    with ready(bench, DEAF) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # "at once" is a second, of which a busy machine takes its share
        process.send_signal(signal.SIGINT)
        time.sleep(1.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG_S)
    assert process.returncode == 137


def test_the_whole_process_group_gets_the_signal(bench: Bench) -> None:
    with bench.start(["sh", "-c", GROUP]) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=LONG_S)
    assert (sorted(out.split()), process.returncode) == ([b"inner", b"outer"], 4)


def test_what_a_shell_began_may_save_although_the_signal_ends_the_shell(bench: Bench) -> None:
    with bench.start(["sh", "-c", SHELL.format("sleep 2; echo saved; exit 0")], times={"left_s": 0.1}) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=LONG_S)
    assert (out, process.returncode) == (b"saved\n", 143)
    assert bench.record().reason == "asked to stop by SIGTERM, ended by SIGTERM"


def test_what_a_shell_began_has_no_more_time_than_the_grace(bench: Bench) -> None:
    with bench.start(["sh", "-c", SHELL.format("")], times={"grace_s": 1.0}) as process:
        assert process.stdout.readline() == b"ready\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    assert 0.9 < time.monotonic() - begun < 25
    assert process.returncode == 143


def test_a_signal_is_passed_on_while_nobody_reads_the_output(bench: Bench) -> None:
    with ready(bench, FLOOD) as process:
        time.sleep(0.5)  # every pipe is full by now, and the runner waits for us
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: bench.events("started"))
        time.sleep(0.5)
        process.stdout.close()
        process.stderr.close()
        assert process.wait(timeout=LONG_S) == 5


def test_what_is_left_of_the_group_is_ended(bench: Bench) -> None:
    done = bench.go(["sh", "-c", "sleep 98765 & (trap '' TERM; sleep 87654) & echo $!"])
    assert done.returncode == 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert path.read_bytes() not in (b"sleep\00098765\0", b"sleep\00087654\0")
        except OSError:
            continue


def test_a_stopped_run_that_is_requeued_writes_no_record(bench: Bench) -> None:
    with ready(bench, NOTED, requeue=True) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    assert not bench.store.exists("runs/run-1/record.json")
    assert bench.go(bench.script(NOTED.replace("while True: time.sleep(0.05)", "")), 2).returncode == 0
    assert (bench.record().state, len(bench.record().attempts)) == ("succeeded", 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root or user namespaces")
def test_as_process_1_it_collects_orphans(bench: Bench, tmp_path: Path) -> None:
    """Fifty grandchildren outlive their parents; none may stay a zombie."""
    bench.start(bench.script(ORPHANS)).communicate(timeout=LONG_S)  # writes attempt.json, and is the first attempt
    config = bench.folder / "attempt.json"
    config.write_text(config.read_text().replace('"attempt": 1', '"attempt": 2'))
    command = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        sys.executable,
        "-I",
        "-S",
        "-B",
        str(bench.bundle),
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, timeout=LONG_S)
    assert (done.returncode, done.stdout) == (0, b"0 1\n"), done.stderr


def test_a_signal_after_the_end_does_not_change_how_it_ended(bench: Bench) -> None:
    (bench.root / "file").write_text("")
    with bench.start(["sh", "-c", "exit 0"], store=f"file://{bench.root}/file") as process:
        wait_for(lambda: b"the store does not take" in process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        assert process.poll() is None, "it goes on trying"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    assert process.returncode == 0
    told = json.loads((bench.folder / "missing.json").read_text())["events"]
    record = records.fold({"run": "r"}, told)
    assert [(event["kind"], event.get("forwarded")) for event in told][-1] == ("signal", False)
    assert record.state == "succeeded"
