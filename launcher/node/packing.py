"""Several short points on one allocation: each is a job step of its own, and all run at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from launcher.job import Job
from launcher.node import told
from launcher.node.order import Order, python
from launcher.node.task import Task
from launcher.node.told import TEMPORARY, Outcome
from launcher.process import start

log = logging.getLogger(__name__)


def run(order: Order, file: Path, task: Task, job: Job, program: str) -> Outcome:
    """Run all points of a task's group as steps, and return what came of them together."""
    steps = range(len(order.groups[task.index]))
    places = [told.path(order, task, step) for step in steps]
    for place in places:
        place.unlink(missing_ok=True)
    started = [
        start([program, *words(job, len(steps), os.environ), *command(order, file, step)], env=os.environ)
        for step in steps
    ]
    codes = [process.wait() for process in started]
    outcomes = [result(place, code) for place, code in zip(places, codes, strict=True)]
    log.info("%d points: %s", len(outcomes), ", ".join(outcome.decision for outcome in outcomes))
    return told.together(outcomes)


def command(order: Order, file: Path, step: int) -> list[str]:
    return [*python(order), "-m", "launcher.node", str(file), "--step", str(step)]


def words(job: Job, many: int, env: Mapping[str, str]) -> list[str]:
    """Return srun's options for one of `many` steps: its share of the allocation, and nothing of the others'.

    Source: srun(1), --exact, --gpus-per-task; without a share of its own a step takes all memory of the job.
    """
    found = ["--exact", "--nodes=1", "--ntasks=1", f"--cpus-per-task={job.resources.cpus or 1}", "--unbuffered"]
    memory = env.get("SLURM_MEM_PER_NODE", "")
    found += [f"--mem={int(memory) // many}M"] if memory.isdigit() and int(memory) else []
    found += [f"--gpus-per-task={job.resources.gpus.count}"] if job.resources.gpus.count else ["--gres=none"]
    return found


def result(place: Path, code: int) -> Outcome:
    """Return what a step said. One that was killed before it could say anything goes on in another attempt."""
    outcome = told.read(place)
    if outcome is None:
        why = f"the step ended with code {code} before it could say what came of it"
        return Outcome(decision="requeue", kind="lost", why=why, code=TEMPORARY)
    return outcome
