"""The examples and the pages that show commands really run, with packages from this machine's own indexes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.cache import Cache
from tests import console

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LAUNCHER = [sys.executable, "-m", "launcher"]

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def env(shared_cache: Cache, tmp_path: Path) -> dict[str, str]:
    return {"LAUNCHER_CACHE": str(shared_cache.root), "LAUNCHER_STORE": str(tmp_path / "store")}


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / "torch", tmp_path / "torch"))


def launcher(*args: str, env: Mapping[str, str], cwd: Path = ROOT) -> str:
    done = subprocess.run([*LAUNCHER, *args], cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(env: Mapping[str, str], run: str = "") -> dict[str, object]:
    told: dict[str, object] = json.loads(launcher("show", *filter(None, [run]), "--json", env=env))
    return told


def test_the_committed_lock_fits_and_gives_the_image_that_it_names(env: dict[str, str]) -> None:
    assert "fits" in launcher("lock", "--check", "examples/digits", env=env)
    assert launcher("rebuild", "examples/digits/experiment.lock", env=env).startswith("identical sha256:")


def test_a_run_of_digits_learns_and_is_recorded(env: dict[str, str]) -> None:
    printed = launcher("run", "examples/digits", "-p", "epochs=20", env=env)
    assert "epoch  20  loss 0.16" in printed
    told = record(env)
    assert told["state"] == "succeeded" and told["params"] == {"lr": 0.1, "hidden": 32, "epochs": 20}
    assert told["metrics"]["names"]["loss"]["count"] == 20  # type: ignore[index]
    assert [found["name"] for found in told["checkpoints"]] == ["epoch-0010.npz", "epoch-0020.npz"]  # type: ignore[attr-defined]
    points = json.loads(launcher("show", "--curve", "loss", "--json", env=env))["loss"]
    assert [step for step, _ in points] == list(range(1, 21)) and points[-1][1] < 0.2 < points[0][1]


def test_torch_that_is_killed_ends_with_the_weights_of_an_undisturbed_run(torch: Path, env: dict[str, str]) -> None:
    """SIGKILL hits everything at once, as when a machine is lost; the next attempt goes on from a whole checkpoint."""
    launcher("run", str(torch), env=env)
    undisturbed = outputs(env, record(env))
    killed = subprocess.Popen(
        [*LAUNCHER, "run", str(torch), "-p", "pause=2"], env=os.environ | env, start_new_session=True
    )
    run = when_checkpoints_are_kept(env, 2)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    printed = launcher("run", "--resume", run, env=env)
    assert "going on after epoch" in printed
    told = record(env, run)
    assert told["state"] == "succeeded" and len(told["attempts"]) == 2  # type: ignore[arg-type]
    assert outputs(env, told)["model.pt"] == undisturbed["model.pt"]


def when_checkpoints_are_kept(env: Mapping[str, str], count: int) -> str:
    """Wait until the newest run has some checkpoints in the store; return its id."""
    before = {path.name for path in Path(env["LAUNCHER_STORE"], "runs").iterdir()}
    for _ in range(1200):
        time.sleep(0.1)
        for run in Path(env["LAUNCHER_STORE"], "runs").iterdir():
            if run.name not in before and len(list(run.glob("checkpoints/*/manifest.json"))) >= count:
                return run.name
    raise AssertionError("no checkpoint came within two minutes")


def outputs(env: Mapping[str, str], told: Mapping[str, object]) -> dict[str, str]:
    """Return the sha256 of each output file from the manifest in the store."""
    manifest = json.loads(Path(env["LAUNCHER_STORE"], told["outputs"]["key"]).read_bytes())  # type: ignore[index]
    return {file["path"]: file["sha256"] for file in manifest["files"]}


def test_the_demo_ends_with_identical(shared_cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "cache").symlink_to(shared_cache.root)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py", "--folder", tmp_path / "demo"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6/6" in done.stdout and "\nidentical sha256:" in done.stdout
    assert done.stdout.count("right: ") == 2 and "loss by step" in done.stdout
    assert len(done.stdout.splitlines()) < 110, "a demo is short"


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-run.md"])
def test_a_page_prints_what_it_shows(page: str, env: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("*.lock"))
    found = list(console.commands(ROOT / page))
    assert len(found) > 4
    if wrong := console.differences(found, console.run(found, tmp_path, env)):
        pytest.fail("\n".join(wrong), pytrace=False)
