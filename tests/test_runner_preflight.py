"""The runner's preflight: a node that can't serve a job ends the attempt before the command starts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.gpu import has_driver
from launcher.gpu.model import Code, Device, Gpu, Node
from launcher.runner import preflight
from tests.attempts import Bench

ONE = {"resources": {"gpus": {"count": 1, "model": None}}}
NEEDS = Gpu(
    cuda="12.6",
    driver="525.60.13",
    driver_exact="560.28.03",
    code=(Code(name="torch", version="2.7.1", cubins=("8.0", "8.6", "9.0"), source="elf"),),
)
H100 = Device(index=0, uuid="GPU-aaaa", model="NVIDIA H100 80GB HBM3", capability="9.0", memory_bytes=80 << 30)
RTX5090 = Device(index=1, uuid="GPU-bbbb", model="NVIDIA GeForce RTX 5090", capability="12.0", memory_bytes=32 << 30)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
def test_a_node_without_gpus_refuses_and_nothing_is_started(bench: Bench) -> None:
    done = bench.python("open('started', 'w')", job=ONE)
    assert done.returncode == preflight.NODE_REFUSED == 78
    assert b"this node can't serve the job: 1 GPU wanted, and there is none" in done.stderr
    assert not (bench.cwd / "started").exists()
    record = bench.record()
    assert (record.state, record.complete, record.exit["code"]) == ("refused", True, 78)
    assert record.reason == "node: 1 GPU wanted, and there is none"
    [ended] = bench.events("ended")
    assert (ended["by"], ended["code"]) == ("node", 78)
    assert [event["pid"] for event in bench.events("started")] == [None]


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
def test_a_refused_attempt_does_not_bring_back_checkpoints_first(bench: Bench) -> None:
    """They may be hundreds of gigabytes. Here the store can't even be read, which would end the attempt with 125."""
    times = {"restore_s": 0.1, "flush_s": 0.3}
    assert bench.python("pass", attempt=2, job=ONE, times=times, store="file:///dev/null/store").returncode == 78


def test_a_command_that_ends_with_78_has_failed_by_itself(bench: Bench) -> None:
    assert bench.python("sys.exit(78)").returncode == 78
    assert (bench.record().state, bench.events("ended")[0].get("by")) == ("failed", None)


def attempt(gpus: dict[str, Any], gpu: Gpu | None = NEEDS) -> Any:
    told = json.loads(json.dumps(asdict(gpu))) if gpu else None
    return SimpleNamespace(given=[], job={"gpu": told, "resources": {"gpus": gpus}})


@pytest.mark.parametrize(
    ("node", "gpus", "environment", "reason"),
    [
        (Node(driver="550.54.14", devices=(H100,), source="nvml"), {"count": 1}, {}, None),
        (Node(driver="520.61.05", devices=(H100,), source="nvml"), {"count": 1}, {}, "520.61.05 is too old"),
        (Node(driver="570.26", devices=(RTX5090,), source="nvml"), {"count": 1}, {}, "no code for NVIDIA GeForce"),
        (Node(driver="550.54.14", devices=(H100,), source="nvml"), {"count": 2}, {}, "2 GPUs wanted"),
        (Node(driver="550.54.14", devices=(H100,), source="nvml"), {"count": 1, "model": "A100"}, {}, "1 x A100"),
        (
            Node(driver="570.26", devices=(H100, RTX5090), source="nvml"),
            {"count": 1},
            {"CUDA_VISIBLE_DEVICES": "0"},
            None,
        ),
        (
            Node(driver="570.26", devices=(H100, RTX5090), source="nvml"),
            {"count": 1},
            {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"},
            "no code for NVIDIA GeForce",
        ),
        (Node(driver="550.54.14"), {"count": 1}, {}, None),  # a driver that hangs: unknown, so the command may try
    ],
)
def test_what_is_refused(
    node: Node, gpus: dict[str, Any], environment: dict[str, str], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "probe", lambda folders: node)
    found = preflight.unfit(attempt(gpus), environment)
    assert (found is None) == (reason is None), found
    if found is not None:
        assert reason is not None and reason in found.reason
        assert (found.code, found.by) == (78, "node")


def test_a_bug_in_the_check_keeps_no_run_from_its_node(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "probe", lambda folders: 1 / 0)
    assert preflight.unfit(attempt({"count": 1}), {}) is None
    assert "could not be checked: ZeroDivisionError" in capfd.readouterr().err


def test_no_gpu_asked_no_part_of_it_loaded(bench: Bench) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import launcher.runner.supervise\n"
        "print([name for name in sys.modules if 'gpu' in name or 'preflight' in name or name == 'dataclasses'])"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(bench.bundle.parent)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
