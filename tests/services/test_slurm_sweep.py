"""The whole journey on a real cluster: 200 points of the real example through Apptainer, as one object."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from tests.clusters import Cluster

pytestmark = [pytest.mark.services, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
FAILING = (3, 50, 77, 120, 199)
TARGET = """
[target]
shared = "{shared}"
runtime = "apptainer"
partition = "main"
python = "{python}"
"""
# Five points fail the first time that they are run.
SWEEP = """
name: digits
image:
  base: debian:bookworm
  python: "3.11"
  pip: [numpy>=2.2, scikit-learn>=1.6]
run: >-
  case " {failing} " in *" $LAUNCHER_PARAM_NUMBER "*) [ "$LAUNCHER_ATTEMPT" != 1 ] || exit 3 ;; esac;
  python train.py --lr {{lr}} --hidden {{hidden}} --epochs 1 --out "$LAUNCHER_OUTPUT_DIR"
  --checkpoints "$LAUNCHER_CHECKPOINT_DIR" --metrics "$LAUNCHER_METRICS"
params: {{lr: 0.1, hidden: 16, number: 0}}
resources: {{cpus: 2, memory: 512M}}  # six at once, two on each node
outputs: [confusion.csv]
sweep:
  file: points.csv
"""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a person sits: a folder with the example, and a configuration that knows the cluster."""

    folder: Path
    env: dict[str, str]

    def launcher(self, *args: str, code: int | None = 0, seconds: float = 1800) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *args],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert code is None or done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def told(self, *args: str, code: int | None = 0) -> Any:
        return json.loads(self.launcher(*args, "--json", code=code).stdout)


@pytest.fixture
def desk(cluster: Cluster, shared_cache: Cache, tmp_path: Path) -> Desk:
    """A person on the login node that this machine is."""
    cluster.ready()
    folder = tmp_path / "digits"
    shutil.copytree(EXAMPLE, folder)
    (folder / "experiment.yaml").write_text(SWEEP.format(failing=" ".join(map(str, FAILING))))
    rows = [f"{0.01 + 0.005 * (number % 40):.3f},{8 + number // 40},{number}" for number in range(200)]
    (folder / "points.csv").write_text("\n".join(["lr,hidden,number", *rows]) + "\n")
    targets = tmp_path / "config" / "launcher" / "targets"
    targets.mkdir(parents=True)
    shared = cluster.shared / f"sweep-{os.getpid()}"
    (targets / "lab.toml").write_text(TARGET.format(shared=shared / "launcher", python="/usr/bin/python3"))
    own = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "LAUNCHER_CACHE": str(shared_cache.root)}
    return Desk(folder=folder, env={**cluster.environment, **own, "LAUNCHER_STORE": str(shared / "store")})


def test_two_hundred_points_of_the_example_are_one_object(
    desk: Desk,
    record_property: Callable[[str, object], None],
) -> None:
    first = desk.told("submit", "--on", "lab")
    assert (first["points"], first["submitted"], first["waiting"]) == (200, 200, 0)
    sweep = first["sweep"]
    assert desk.launcher("wait", sweep, code=1).stdout == "", "five of them fail"
    told = desk.told("status", sweep, code=1)[0]
    assert told["counts"] == {"succeeded": 195, "failed": 5} and told["over"]
    failed = [point for point in told["points"] if point["state"] == "failed"]
    assert tuple(point["point"] for point in failed) == FAILING
    assert {point["reason"] for point in failed} == {"the command ended with code 3"}

    again = desk.told("retry", "--failed", sweep)[0]
    assert tuple(again["sent"]) == FAILING and again["submitted"] == 5
    desk.launcher("wait", sweep)

    rows = desk.told("table", sweep)
    assert len(rows) == 200 and {row["state"] for row in rows} == {"succeeded"}
    assert [row["params"]["number"] for row in rows] == list(range(200))
    assert all(0 < row["metrics"]["loss"] < 3 for row in rows)
    points = desk.told("status", sweep)[0]["points"]
    assert all(point["complete"] for point in points), "every record is complete"
    assert [point["point"] for point in points if point["attempts"] == 2] == list(FAILING)

    before = desk.launcher("ls", "--sweep", sweep, "--all").stdout
    assert len(before.splitlines()) == 201
    last = desk.told("submit", "--on", "lab")
    assert last["sweep"] == sweep and last["before"] == {"succeeded": 200} and last["submitted"] == 0
    lines = desk.launcher("logs", sweep, "--stdout").stdout.splitlines()
    assert sum(line.startswith("00042 | right: ") for line in lines) == 1 and len(lines) == 200
    record_property("figures", told["counts"])
