"""Times whole processes, and sets them beside each other."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Took:
    """One whole process: wall seconds, and the peak memory of its largest process in MB."""

    wall_s: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. `goal` is how many times faster ours should be, or None where it is only told."""

    what: str
    ours: Took
    rival: str
    theirs: Took
    goal: float | None = None

    @property
    def ratio(self) -> float:
        return self.theirs.wall_s / self.ours.wall_s


def process(args: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Took:
    """Run a program to its end; raises RuntimeError with its output when it fails."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [str(arg) for arg in args],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert child.stdout
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{args} ended with {child.returncode}:\n{said.decode(errors='replace')}")
    return Took(wall_s=time.perf_counter() - began, peak_mb=usage.ru_maxrss / 1024)


def median(run: Callable[[], Took], times: int, before: Callable[[], object] = lambda: None) -> Took:
    """Run several times, with `before` untimed before each; return the median wall time and the greatest memory."""
    found = []
    for _ in range(times):
        before()
        found.append(run())
    return Took(wall_s=statistics.median(took.wall_s for took in found), peak_mb=max(took.peak_mb for took in found))


def table(title: str, rows: Sequence[Row]) -> None:
    print(f"\n{title}\n{'':44}{'ours':>9}{'memory':>9}{'theirs':>9}{'ratio':>8}{'goal':>7}")
    for row in rows:
        goal = f"{row.goal:g}" if row.goal else ""
        missed = "  missed" if row.goal and row.ratio < row.goal else ""
        print(
            f"{row.what + ' / ' + row.rival:44}{row.ours.wall_s:8.2f}s{row.ours.peak_mb:6.0f} MB"
            f"{row.theirs.wall_s:8.2f}s{row.ratio:8.1f}{goal:>7}{missed}"
        )
    sys.stdout.flush()


def tell(text: str) -> None:
    """Say on stderr what is being done."""
    print(text, file=sys.stderr, flush=True)
