"""Calls scancel, and reads what it says."""

from __future__ import annotations

import os
from collections.abc import Sequence

from launcher.errors import ProcessError
from launcher.process import run

AT_ONCE = 200  # words of one command line
OVER = ("Invalid job id", "already completing", "already completed", "Job/step already")


def scancel(jobs: Sequence[str]) -> list[str]:
    """Cancel jobs, given as scancel takes them (1234, 1234_[0-3,7]); return complaints but for jobs that are over."""
    from launcher.slurm.sbatch import environment

    complaints: list[str] = []
    for at in range(0, len(jobs), AT_ONCE):
        argv = ["scancel", *jobs[at : at + AT_ONCE]]
        try:
            done = run(argv, env=environment(os.environ), timeout_s=120, check=False)
        except ProcessError as e:
            complaints.append(e.problems[0].message)
            continue
        said = done.stderr.decode(errors="replace").splitlines()
        found = [line.removeprefix("scancel: error: ") for line in said if line.strip()]
        complaints += [line for line in found if not any(word in line for word in OVER)]
        if done.returncode and not found:
            complaints.append(f"scancel ended with code {done.returncode}")
    return complaints
