"""Run the benchmarks and print tables of ratios: `python -m benchmarks [start] [lock] [runner] [steps]
[environments] [push] [containers] [files]`; and `python -m benchmarks transfers|listing|slurm|boxes [its own options]`.

Needs root for a Docker engine of its own, and docker.io, docker-registry, mmdebstrap,
dpkg-dev. Nothing else should run beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.engine import docker_engine
from benchmarks.environments import BASE, SMALL, TORCH, Bench, builds, debian_base, first_line
from benchmarks.measure import Row, median, process, table, tell


def environments(bench: Bench) -> None:
    """Print the tables of builds."""
    tell("base: locking")
    bench.spec(BASE)
    bench.launcher("build", "--docker", bench.project / "base.lock")
    base = tag(bench)
    table("Debian base", [debian_base(bench)])
    table("Small environment", [*builds(bench, SMALL, base, {}), first_line(bench, SMALL, base)])
    table("PyTorch on the CPU", [*builds(bench, TORCH, base, {"pip": 8, "uv": 4}), first_line(bench, TORCH, base)])


def tag(bench: Bench) -> str:
    from launcher.cache import Cache
    from launcher.image import build
    from launcher.lock import load

    return build(load(bench.project / "base.lock"), Cache(bench.cache)).tag


def lock(bench: Bench) -> None:
    """Print what locking adds to uv's own time, with everything in the cache."""
    from benchmarks.environments import uv
    from launcher.indexes.settings import configured
    from launcher.resolve.uv import config

    (bench.folder / "uv.toml").write_text(config(configured(None)))
    rows = []
    for environment in (SMALL, TORCH):
        spec = bench.spec(environment)
        requirements = bench.folder / f"{environment.name}.txt"
        requirements.write_text("\n".join(environment.pip))
        bare = [uv(), "pip", "compile", "-q", "--no-header", "--python-version", "3.11", "--only-binary", ":all:"]
        bare += ["--config-file", str(bench.folder / "uv.toml"), "--python", sys.executable, str(requirements)]
        theirs = median(lambda args=bare: process(args), 5)  # type: ignore[misc]
        ours = median(lambda path=spec: bench.launcher("lock", path), 5)  # type: ignore[misc]
        rows.append(
            Row(what=f"launcher lock, warm: {environment.name}", ours=ours, rival="uv pip compile", theirs=theirs)
        )
    table("Lock (goal: at most 0.5 s over uv's own time)", rows)


def start(bench: Bench) -> None:
    """Print what starting costs."""
    ours = median(lambda: process([sys.executable, "-m", "launcher", "--help"]), 20)
    python = median(lambda: process([sys.executable, "-c", "pass"]), 20)
    table("Start (goal: 0.15 s)", [Row(what="launcher --help", ours=ours, rival="python -c pass", theirs=python)])


def runner(bench: Bench) -> None:
    """Print what the runner adds to a command."""
    print()
    subprocess.run([sys.executable, Path(__file__).with_name("runner.py")], check=True)


def steps(bench: Bench) -> None:
    """Print what shipping checkpoints costs the training."""
    script = Path(__file__).with_name("steps.py")
    for store in ("folder", "moto"):
        subprocess.run([sys.executable, script, "--store", store], check=True, start_new_session=True)


def push(bench: Bench) -> None:
    """Print what pushes to a registry move."""
    from benchmarks.registry import pushes

    if not (bench.project / "base.lock").exists():
        bench.spec(BASE)
    bench.launcher("build", "--docker", bench.project / "base.lock")
    pushes(bench, tag(bench))


def containers(bench: Bench) -> None:
    """Print what the start of a container costs."""
    from benchmarks.containers import starts

    starts(bench)


def files(bench: Bench) -> None:
    """Print what one file for Apptainer costs."""
    from benchmarks.single_files import single_files

    single_files(bench)


PARTS = {
    "start": start,
    "lock": lock,
    "runner": runner,
    "steps": steps,
    "environments": environments,
    "push": push,
    "containers": containers,
    "files": files,
}
OTHERS = ("transfers", "listing", "slurm", "boxes")  # need no Docker, and take options of their own


def main(chosen: list[str]) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have byte code
    if chosen and chosen[0] in OTHERS:
        import_module(f"benchmarks.{chosen[0]}").main(chosen[1:])
        return
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as folder, docker_engine() as docker:
        bench = Bench(Path(folder), docker)
        for name, part in PARTS.items():
            if not chosen or name in chosen:
                part(bench)


if __name__ == "__main__":
    main(sys.argv[1:])
