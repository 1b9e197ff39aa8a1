"""The runner: how commands start and end, what they see, and what is told of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.records.series import series
from launcher.runner import host
from launcher.runner.environment import parameter_variables
from launcher.runner.metrics import Summary
from tests.attempts import PACKAGE, Bench, wait_for
from tests.patience import LONG_S


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "it's a $run\u00e9")


@pytest.mark.parametrize(
    ("script", "code", "state"),
    [
        ("exit 0", 0, "succeeded"),
        ("exit 3", 3, "failed"),
        ("kill -9 $$", 137, "killed"),
        ("kill -SEGV $$", 139, "killed"),
        ("exit 255", 255, "failed"),
    ],
)
def test_the_exit_code_is_the_commands(bench: Bench, script: str, code: int, state: str) -> None:
    assert bench.go(["sh", "-c", script]).returncode == code
    record = bench.record()
    assert (record.state, record.exit["code"], record.complete) == (state, code, True)


def test_a_missing_program_is_127(bench: Bench) -> None:
    done = bench.go(["no-such-program"])
    assert done.returncode == 127
    assert b"no program `no-such-program`" in done.stderr
    assert bench.record().state == "failed"
    assert "no program `no-such-program`" in (bench.record().reason or "")


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("#!/bin/sh\n", 0o644, "not executable"),
        ("#!/no/such/interpreter\n", 0o755, "first line"),
        ("no program at all", 0o755, "`#!` line"),
    ],
)
def test_what_cannot_be_executed_is_126(bench: Bench, text: str, mode: int, reason: str) -> None:
    program = bench.cwd / "program"
    program.write_text(text)
    program.chmod(mode)
    environment = {"PATH": f"/nowhere:{bench.cwd}"}
    done = bench.go(["program"], environment=environment)
    assert (done.returncode, reason in done.stderr.decode()) == (126, True), done.stderr


def test_a_missing_working_directory_is_told(bench: Bench) -> None:
    done = bench.go(["true"], cwd="/no/such/folder")
    assert done.returncode == 127
    assert b"/no/such/folder can't be entered" in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ('{"version": 2}', "version 2"),
        ('{"version": 1, "job": {"run": "r"}}', "argv"),
        ('{"version": 1, "job": {"run": "r", "argv": []}, "attempt": 1, "store": "/x"}', "must not be empty"),
        ("[]", "list"),
    ],
)
def test_an_unusable_attempt_is_125(bench: Bench, text: str, reason: str) -> None:
    path = bench.folder / "attempt.json"
    path.write_text(text)
    command = [sys.executable, "-I", "-S", "-B", str(bench.bundle), str(path)]
    done = subprocess.run(command, capture_output=True, env={})
    assert (done.returncode, reason in done.stderr.decode()) == (125, True), done.stderr


def test_the_command_sees_only_what_was_decided(bench: Bench) -> None:
    job = {"env": {"MINE": "1"}, "params": {"lr": 0.1, "name": "a b", "flag": True}, "determinism": "seed"}
    env = {"STORE_SECRET": "x", "WANTED": "y"}
    done = bench.go(["env", "-0"], job=job, env=env, **{"pass": ["WANTED", "ABSENT"]})
    seen = dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)
    folder = str(bench.folder)
    assert seen.pop("PATH") == os.environ["PATH"]
    assert seen == {
        "MINE": "1",
        "WANTED": "y",
        "LAUNCHER_RUN_ID": "run-1",
        "LAUNCHER_ATTEMPT": "1",
        "LAUNCHER_SEED": "7",
        "LAUNCHER_PARAMS": folder + "/params.json",
        "LAUNCHER_OUTPUT_DIR": folder + "/outputs",
        "LAUNCHER_CHECKPOINT_DIR": folder + "/checkpoints",
        "LAUNCHER_METRICS": folder + "/metrics.jsonl",
        "LAUNCHER_PARAM_LR": "0.1",
        "LAUNCHER_PARAM_NAME": "a b",
        "LAUNCHER_PARAM_FLAG": "true",
        "PYTHONHASHSEED": "7",
        "PYTHONUNBUFFERED": "1",
    }
    assert json.loads((bench.folder / "params.json").read_text()) == job["params"]


def test_a_parameters_name_becomes_a_variables() -> None:
    assert parameter_variables({"a-b.c": None, "\u00e9": 1}) == {
        "LAUNCHER_PARAM_A_B_C": "null",
        "LAUNCHER_PARAM__": "1",
    }


def test_the_command_has_its_own_session_and_no_stdin_and_no_open_files(bench: Bench) -> None:
    done = bench.python(
        "print(os.getsid(0) == os.getpid(), os.getcwd(), repr(sys.stdin.read()))\n"
        "print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:4])\n"
        "print(signal.getsignal(signal.SIGUSR1), signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "print(open('/proc/self/status').read().split('SigIgn:')[1].split()[0])\n"
    )
    session, descriptors, handler, ignored = done.stdout.decode().splitlines()
    assert session == f"True {bench.cwd} ''"
    assert descriptors == "[0, 1, 2, 3]"  # 3 is the folder that is being listed
    assert handler == "0 set()"
    assert int(ignored, 16) & (1 << 9 | 1 << 11) == 0, "SIGUSR1 and SIGUSR2 must not be ignored"


def test_host_facts_are_true(bench: Bench) -> None:
    bench.go(["true"], host={"gpus": "told from outside"})
    host = bench.record().host
    assert host is not None
    assert host["kernel"] == f"Linux {os.uname().release}"
    assert host["cpus_allowed"] == len(os.sched_getaffinity(0))
    assert host["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host["gpus"] == "told from outside"


def test_outputs_are_kept_by_pattern_with_their_digests(bench: Bench) -> None:
    script = (
        "os.chdir(os.environ['LAUNCHER_OUTPUT_DIR']); os.makedirs('a/b'); os.symlink('m.txt', 'a/link')\n"
        "for n in ('a/m.txt', 'a/b/deep.txt', 'top.bin', 'a/b/#1', 'n\\new', 'skip.log'): open(n, 'w').write(n)\n"
        "os.mkfifo('a/pipe')\n"
    )
    bench.python(script, job={"outputs": ["a", "**/*.bin", "n*w"]})
    record = bench.record()
    prefix = "runs/run-1/outputs/0001/"
    manifest = json.loads(bench.store.get(prefix + "manifest.json"))
    assert [file["path"] for file in manifest["files"]] == [
        "a/b/#1",
        "a/b/deep.txt",
        "a/link",
        "a/m.txt",
        "n\new",
        "top.bin",
    ]
    assert bench.store.get(prefix + "files/a/m.txt") == b"a/m.txt"
    assert bench.store.get(prefix + "files/n%0Aew") == b"n\new"
    assert record.outputs is not None and record.outputs["digest"] == manifest["digest"]
    assert record.missing == ("output a/pipe: is no file, folder or link",)
    assert (record.state, record.complete) == ("succeeded", False)


def test_outputs_with_names_that_are_no_utf8_are_kept(bench: Bench) -> None:
    script = "os.chdir(os.environ['LAUNCHER_OUTPUT_DIR']); [open(n, 'w').write('x') for n in (b'a\\xff', b'b')]"
    bench.python(script)
    record = bench.record()
    assert (record.complete, record.missing, record.outputs and record.outputs["files"]) == (True, (), 2)
    assert bench.store.get("runs/run-1/outputs/0001/files/a%FF") == b"x"


def test_metrics_are_summed_up_and_bad_lines_counted(bench: Bench) -> None:
    rows = [
        '{"step": 1, "loss": 0.5, "note": "x"}',
        "no json",
        "[1]",
        '{"step": 2, "loss": NaN}',
        "",
        '{"step": 3, "loss": 0.25, "ok": true}',
    ]
    bench.python(f"open(os.environ['LAUNCHER_METRICS'], 'w').write({chr(10).join(rows)!r})")  # no line feed at the end
    metrics = bench.record().metrics
    assert (metrics["rows"], metrics["bad"]) == (3, 2)
    loss = {"count": 3, "last": 0.25, "last_step": 3, "min": 0.25, "min_step": 3, "max": 0.5, "max_step": 1}
    assert metrics["names"]["loss"] == loss
    chunks = bench.store.list("runs/run-1/metrics/0001/")
    assert b"".join(bench.store.get(chunk.key) for chunk in chunks).count(b"\n") == 3


def test_numbers_that_are_none_do_not_hurt() -> None:
    summary = Summary()
    huge = b'{"x": ' + b"9" * 400 + b"}"
    assert summary.add_lines([huge, b'{"x": Infinity}', b'{"x": 1e999, "step": [1]}', b"[" * 100_000]) != []
    assert summary.names["x"]["last"] == "inf" and summary.names["x"]["min"] is None
    assert (summary.rows, summary.bad) == (3, 1)
    summary.add({"x": 2})
    assert (summary.names["x"]["min"], summary.names["x"]["max"], summary.names["x"]["count"]) == (2, 2, 4)
    assert summary.add_lines([b'{"y": 1, "step": NaN, "done": true}', b'{"y": 2, "step": 1e999}'])
    assert (summary.names["y"]["min_step"], summary.names["y"]["last_step"]) == ("nan", "inf")
    assert set(summary.names) == {"x", "y"}, "true is no number"
    json.dumps(summary.as_json(), allow_nan=False)


def test_points_that_no_float_can_hold_are_not_drawn(bench: Bench) -> None:
    rows = ['{"x": ' + "9" * 400 + "}", '{"x": 1, "step": 1' + "0" * 400 + "}", '{"x": 2, "step": 7}']
    bench.python(f"open(os.environ['LAUNCHER_METRICS'], 'w').write({chr(10).join(rows)!r})")
    assert series(bench.store, "run-1", "x") == [(7, 2)]


def test_it_lives_and_tells_while_the_command_runs(bench: Bench) -> None:
    script = (
        "print('begun', flush=True)\n"
        "print(json.dumps({'step': 1, 'loss': 2}), file=open(os.environ['LAUNCHER_METRICS'], 'a'))\n"
        "while not os.path.exists('stop'): time.sleep(0.02)\n"
    )
    with bench.start(bench.script(script)) as process:
        wait_for(lambda: b"begun" in bench.logs())
        wait_for(lambda: bench.store.list("runs/run-1/heartbeats/"))
        record = wait_for(lambda: (found := bench.record()).metrics["names"] and found)
        assert (record.state, record.metrics["names"]["loss"]["last"]) == ("running", 2)
        (bench.cwd / "stop").touch()
        process.communicate(timeout=LONG_S)
    assert bench.record().state == "succeeded"


HEAVY = {"obstore", "typing", "pathlib", "dataclasses", "inspect", "asyncio", "subprocess", "shutil", "hashlib"}


def loaded(bench: Bench, modules: str) -> set[str]:
    """Return the modules that a bare interpreter has loaded after importing some from the bundle."""
    code = f"import sys; sys.path.insert(0, {str(bench.bundle.parent)!r}); import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_nothing_heavy_is_loaded_before_the_command_starts(bench: Bench) -> None:
    assert loaded(bench, "launcher.runner.supervise") & HEAVY == set()


def test_the_runner_needs_no_other_part_of_launcher(bench: Bench) -> None:
    every = ", ".join(f"launcher.runner.{path.stem}" for path in (PACKAGE / "runner").glob("[a-z]*.py"))
    parts = {name.split(".")[1] for name in loaded(bench, f"{every}, launcher.store.objects") if "launcher." in name}
    assert parts <= {"runner", "store", "errors", "digest", "findings", "gpu"}


def test_a_second_runner_of_the_same_attempt_overwrites_nothing(bench: Bench) -> None:
    argv = ["sh", "-c", "echo $$"]
    first, second = bench.go(argv), bench.go(argv)
    assert first.stdout != second.stdout
    assert bench.logs().endswith(b"stdout F " + first.stdout)
    assert b"two runners have this attempt" in second.stderr


def test_a_cpu_without_a_name_is_told_by_its_codes() -> None:
    assert host.cpu_model("processor : 0\nmodel name : Some CPU @ 2.5GHz\n") == "Some CPU @ 2.5GHz"
    assert host.cpu_model("CPU implementer : 0x41\nCPU part\t: 0xd0c\n") == "0x41 0xd0c"
    assert host.cpu_model("") == "unknown"
