"""Where this process runs in Slurm's words: which job, task, node and step, read from the environment.

Source: sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES".
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PORTS = (12000, 20000)  # the first port for rendezvous and how many: below the ephemeral ones of Linux (ip(7))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of an array, or a job that is no array. `rank` counts the nodes of a task, from 0."""

    job: str  # of the whole array, or of the single job
    index: int = 0  # in the array
    array: bool = False
    own_job: str = ""  # the number that Slurm gave to this task alone
    restart: int = 0
    rank: int = 0
    nodes: int = 1
    node: str = ""
    partition: str | None = None
    cluster: str | None = None
    ends: float | None = None  # when its time is over (Unix time)

    @property
    def name(self) -> str:
        """Return what scontrol calls it, such as 812_7."""
        return f"{self.job}_{self.index}" if self.array else self.job

    @property
    def port(self) -> int:
        """Return a port for rendezvous that other jobs on the node don't have."""
        first, many = PORTS
        return first + int(self.own_job or "0") % many

    def left_s(self) -> float | None:
        """Return how many seconds are left before the time limit; None where Slurm doesn't say."""
        return None if self.ends is None else self.ends - time.time()

    def facts(self, token: str, submission: int) -> dict[str, Any]:
        """Return what a record says of it."""
        found = {
            "kind": "slurm",
            "cluster": self.cluster,
            "partition": self.partition,
            "job": self.name,
            "own_job": self.own_job,
            "node": self.node,
            "restart": self.restart,
            "submission": submission,
            "token": token,
        }
        return {name: value for name, value in found.items() if value is not None}


def here(env: Mapping[str, str] = os.environ) -> Task:
    """Read the task that this process belongs to. Outside Slurm it is job 0, a single one."""
    array = env.get("SLURM_ARRAY_TASK_ID", "")
    own = env.get("SLURM_JOB_ID", "0")
    return Task(
        job=env.get("SLURM_ARRAY_JOB_ID") or own,
        index=number(array),
        array=array.isdigit(),
        own_job=own,
        restart=number(env.get("SLURM_RESTART_COUNT")),
        rank=number(env.get("SLURM_NODEID") if env.get("SLURM_STEP_ID") else "0"),
        nodes=number(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_JOB_NUM_NODES"), 1),
        node=env.get("SLURMD_NODENAME") or os.uname().nodename,
        partition=env.get("SLURM_JOB_PARTITION"),
        cluster=env.get("SLURM_CLUSTER_NAME"),
        ends=float(number(env.get("SLURM_JOB_END_TIME"))) or None,
    )


def number(text: str | None, otherwise: int = 0) -> int:
    return int(text) if text and text.isdigit() else otherwise
