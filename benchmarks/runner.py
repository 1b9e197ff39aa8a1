"""What the runner costs: a command under it beside the same command bare, alternating, in the same sandbox.

    python benchmarks/runner.py [--rounds 20] [--json]

The sandbox is `unshare` with user, mount and PID namespaces where the kernel allows it, else none; both sides get
the same. Limits that the project set itself: 150 ms and 60 MB over a bare `true`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.attempts import make_bundle  # noqa: E402  (the same bundle that the tests use)

SANDBOX = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
LIMIT_MS, LIMIT_MB = 150, 60
OUTPUT = ["sh", "-c", "head -c 64000000 /dev/zero | tr '\\0' 'a' | fold -w 99"]


@dataclass
class Side:
    """One way to run a command: wall times in seconds, peak memory in KiB of its largest process."""

    name: str
    walls: list[float] = field(default_factory=list)
    peak_kb: int = 0

    @property
    def median_ms(self) -> float:
        return statistics.median(self.walls) * 1000

    @property
    def best_ms(self) -> float:
        return min(self.walls) * 1000


class Runs:
    """Makes a fresh attempt for every start."""

    def __init__(self, folder: Path, wrap: list[str]) -> None:
        self.folder, self.wrap, self.count = folder, wrap, 0
        self.bundle = make_bundle(folder / "bundle")

    def under_runner(self, command: list[str], cache: Path) -> tuple[float, int]:
        self.count += 1
        run = self.folder / f"run-{self.count}"
        run.mkdir()
        told = {
            "version": 1,
            "job": {"run": run.name, "argv": command, "outputs": ["**"]},
            "attempt": 1,
            "store": f"file://{self.folder}/store",
            "cwd": str(self.folder),
            "environment": {"PATH": os.environ["PATH"]},
        }
        (run / "attempt.json").write_text(json.dumps(told))
        start = [sys.executable, "-I", "-S", "-B", str(self.bundle), str(run / "attempt.json")]
        return timed([*self.wrap, *start], {"PYTHONPYCACHEPREFIX": str(cache)})

    def bare(self, command: list[str]) -> tuple[float, int]:
        return timed([*self.wrap, *command], {})


def timed(command: list[str], env: dict[str, str]) -> tuple[float, int]:
    """Run a command; return (seconds, peak KiB of the largest process in it)."""
    probe = (
        "import os, resource, subprocess, sys, time; t = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, "
    )
    probe += "stdout=subprocess.DEVNULL); print(time.perf_counter() - t, "
    probe += "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)"
    whole = {"PATH": os.environ["PATH"], **env}
    done = subprocess.run([sys.executable, "-c", probe, *command], env=whole, check=True, capture_output=True)
    seconds, peak = done.stderr.split()[-2:]
    return float(seconds), int(peak)


def sandbox() -> list[str]:
    if shutil.which("unshare") is None:
        return []
    return SANDBOX if subprocess.run([*SANDBOX, "true"], capture_output=True).returncode == 0 else []


def compare(command: list[str], rounds: int) -> list[Side]:
    """Run both sides by turns, so that a busy machine hurts both."""
    sides = [Side("bare"), Side("runner"), Side("runner, first start of an image (no byte code yet)")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = Runs(folder, sandbox())
        runs.under_runner(["true"], folder / "warm")
        for turn in range(rounds):
            take(sides[0], runs.bare(command))
            take(sides[1], runs.under_runner(command, folder / "warm"))
            if turn < 5:
                take(sides[2], runs.under_runner(command, folder / f"cold-{turn}"))
    return sides


def take(side: Side, measured: tuple[float, int]) -> None:
    side.walls.append(measured[0])
    side.peak_kb = max(side.peak_kb, measured[1])


def table(title: str, sides: list[Side]) -> list[dict[str, object]]:
    bare = sides[0]
    return [
        {
            "command": title,
            "way": side.name,
            "median_ms": round(side.median_ms, 1),
            "best_ms": round(side.best_ms, 1),
            "over_bare_ms": round(side.median_ms - bare.median_ms, 1),
            "ratio": round(side.median_ms / bare.median_ms, 2),
            "peak_mb": round(side.peak_kb / 1024, 1),
        }
        for side in sides
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What the runner costs.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    rows = table("true", compare(["true"], told.rounds))
    rows += table("64 MB of lines", compare(OUTPUT, max(3, told.rounds // 5)))
    if told.json:
        print(json.dumps({"sandbox": bool(sandbox()), "rows": rows}, indent=1))
        return
    widths = [max(len(str(row[key])) for row in [{k: k for k in rows[0]}, *rows]) for key in rows[0]]
    for row in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(str(value).ljust(width) for value, width in zip(row.values(), widths, strict=True)).rstrip())
    over, peak = rows[1]["over_bare_ms"], rows[1]["peak_mb"]
    print(f"\n`true`: {over} ms over bare (limit {LIMIT_MS}), {peak} MB (limit {LIMIT_MB}); sandbox: {bool(sandbox())}")


if __name__ == "__main__":
    main()
