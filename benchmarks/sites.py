"""The small real cluster of slurm/dev for the benchmarks: started, filled with a base image, held back, and ended."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Took, process, tell

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "slurm" / "dev" / "cluster"
TARGET = "bench"
SPEC = """\
name: {name}
image: {{base: "debian:bookworm", apt: [python3]}}
run: {run}
resources: {{cpus: 1, memory: 200M, time: 10m}}
"""
WAIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster, a person's own settings, and a store."""

    folder: Path
    shared: Path
    address: str
    env: dict[str, str]

    def slurm(self, *args: str) -> str:
        done = subprocess.run(args, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=WAIT_S)
        if done.returncode:
            raise RuntimeError(f"{args} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def launcher(self, *args: str | Path) -> Took:
        return process([sys.executable, "-m", "launcher", *args], env=self.env, cwd=self.folder)

    def asked(self, *args: str | Path) -> str:
        """Return what the command prints."""
        return self.slurm(sys.executable, "-m", "launcher", *map(str, args))

    def spec(self, name: str, run: str, sweep: str = "") -> Path:
        """Write a spec into a folder of its own, beside the lock that all share."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        path = place / "experiment.yaml"
        path.write_text(SPEC.format(name=name, run=run) + sweep)
        lock = self.folder / "first" / "experiment.lock"
        if name != "first" and lock.exists():
            path.with_suffix(".lock").write_bytes(lock.read_bytes())
        return path

    def hold(self) -> None:
        """Let nothing start: what is submitted stays in the queue, and takes no processor from who submits."""
        self.slurm("scontrol", "update", f"nodename={self.nodes}", "state=drain", "reason=benchmark")

    def release(self) -> None:
        self.slurm("scontrol", "update", f"nodename={self.nodes}", "state=resume")

    def empty(self) -> None:
        """Cancel everything, and wait until the queue is empty."""
        self.slurm("scancel", "--user", "root")
        until = time.monotonic() + WAIT_S
        while self.slurm("squeue", "--noheader"):
            if time.monotonic() > until:
                raise RuntimeError("the queue doesn't get empty")
            time.sleep(0.2)

    @property
    def nodes(self) -> str:
        return self.slurm("sinfo", "-h", "-o", "%N", "-p", "main").strip()


@contextlib.contextmanager
def site(folder: Path, apptainer: str) -> Iterator[Site]:
    """Run a cluster until the end of the block, as a target of this name; the lock of its specs is there."""
    told = subprocess.run(
        [CLUSTER, "up", "--owner", str(os.getpid()), "--program", apptainer], capture_output=True, text=True, check=True
    ).stdout
    given = dict(shlex.split(line)[1].split("=", 1) for line in told.splitlines())
    home = Path(given["SLURM_DEV_HOME"])
    number = home.name.rpartition("-")[2]
    env = {
        "SLURM_CONF": given["SLURM_CONF"],
        "XDG_CONFIG_HOME": str(folder / "config"),
        "LAUNCHER_CACHE": str(folder / "cache"),
        "LAUNCHER_STORE": str(home / "shared" / "store"),
        "PATH": f"{Path(apptainer).parent}:{os.environ['PATH']}",
    }
    try:
        one = Site(folder=folder, shared=home / "shared", address=f"10.77.{number}.1", env=env)
        prepared(one)
        yield one
    finally:
        subprocess.run([CLUSTER, "--number", number, "down"], check=True)


def prepared(one: Site) -> None:
    tell("slurm: looking at the cluster")
    one.launcher("target", "add", TARGET, "--slurm", "--shared", one.shared / "launcher")
    tell("slurm: locking and building")
    one.launcher("lock", one.spec("first", '["true"]'))
    one.launcher("build", one.folder / "first" / "experiment.lock")
