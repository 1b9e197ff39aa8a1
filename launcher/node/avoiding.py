"""A task that was queued again since its node can't serve it stays away from that node, where others may do better."""

from __future__ import annotations

import logging

from launcher.errors import LauncherError
from launcher.job import Job
from launcher.node import scontrol
from launcher.node.task import Task
from launcher.process import run
from launcher.profiles.model import Partition, Profile

log = logging.getLogger(__name__)


def avoid(task: Task, profile: Profile, job: Job) -> None:
    """Ask Slurm for other nodes, unless half of those that may serve the job are excluded already.

    Slurm changes this only of a task that waits (scontrol(1), ExcNodeList): call it after the requeue. What fails here
    is told and no more, for then the task is tried as it was.
    """
    try:
        known = excluded(task)
        if task.node not in known and len(known) < candidates(profile, task, job) // 2:
            names = ",".join([*known, task.node])
            run(["scontrol", "update", f"JobId={task.name}", f"ExcNodeList={names}"], timeout_s=scontrol.ASK_S)
            log.info("%s is to run on another node than %s", task.name, task.node)
    except LauncherError as e:
        log.warning("%s may come to %s again: %s", task.name, task.node, e)


def excluded(task: Task) -> list[str]:
    told = scontrol.facts(task).get("ExcNodeList", "(null)")
    if told in ("", "(null)"):
        return []
    return run(["scontrol", "show", "hostnames", told], timeout_s=scontrol.ASK_S).stdout.decode().split()


def candidates(profile: Profile, task: Task, job: Job) -> int:
    """Return how many nodes may serve the job, as far as the profile knows: none where it doesn't."""
    found = next((one for one in profile.partitions if one.name == task.partition), Partition(name=""))
    if job.resources.gpus.count and found.kinds:
        return sum(kind.count for kind in found.kinds if kind.gres)
    return found.nodes or 0
