"""What the host side asks of Slurm itself: to put its task into the queue again, and whether it is being preempted."""

from __future__ import annotations

import logging

from launcher.errors import LauncherError
from launcher.node.task import Task
from launcher.process import run

ASK_S = 60.0
TRIES = 3
log = logging.getLogger(__name__)


def requeue(task: Task) -> str | None:
    """Put the task into the queue again; return why Slurm refuses, None when it is done.

    Slurm then ends what of the task still runs. Source: scontrol(1), requeue.
    """
    why = "nobody asked it"
    for _ in range(TRIES):
        try:
            run(["scontrol", "requeue", task.name], timeout_s=ASK_S)
            return None
        except LauncherError as e:
            why = e.problems[0].message.replace("\n", " ")
            log.warning("scontrol requeue %s: %s", task.name, why)
            if "disabled" in why or "Invalid" in why:
                break
    return why


def is_preempted(task: Task) -> bool:
    """Tell whether Slurm wants the task's place for another; False where it doesn't say (scontrol(1), show job)."""
    try:
        return facts(task).get("PreemptTime", "None") not in ("None", "N/A")
    except LauncherError:
        return False


def facts(task: Task) -> dict[str, str]:
    """Return what Slurm says of the task, in its own words. Raises LauncherError where it says nothing."""
    said = run(["scontrol", "--oneliner", "show", "job", task.own_job], timeout_s=ASK_S).stdout.decode()
    return dict(word.partition("=")[::2] for word in said.split())
