"""The host side on the other nodes of a task: runs the command when the first node says so, and ends with it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from launcher.job.sweeps import Plan
from launcher.node import gpus, images, ranks, staging
from launcher.node.allocated import Allocated, runtime_of
from launcher.node.order import Order
from launcher.node.reach import times
from launcher.node.stopping import Stopping
from launcher.node.task import Task
from launcher.profiles.places import Places
from launcher.target.model import Process, Work

LOOK_S = 0.5
log = logging.getLogger(__name__)


def follow(order: Order, plan: Plan, index: int, task: Task, stopping: Stopping) -> int:
    """Join every attempt that the first node begins. Returns 0: how the run ended is the first node's to say.

    Raises Stopped, LauncherError.
    """
    job = plan.job(index)
    follower = ranks.Follower(order, task)
    delivered = images.read(order.profile.shared, order.image)
    cache = staging.cache_of(order)
    sif = staging.sif_of(delivered, cache, order)
    given = gpus.given(job.resources.gpus.count)
    shared = Path(Places(order.profile.shared).run(job.run))
    target = Allocated(cache, [runtime_of(order.profile.runtime, cache, delivered, sif)], given, shared)
    while told := follower.next(stopping):
        work = Work(
            job=job,
            image=delivered.image,
            code=Path(order.code),
            store=order.store,
            attempt=int(told["attempt"]),
            data={name: Path(path) for name, path in order.data.items()},
            env={**(given.env or {}), **ranks.variables(task, str(told["address"]), int(told["port"]))},
            times=times(order.profile.warn_s),
            mounts=given.mounts,
            rank=task.rank,
        )
        process = target.join(work)
        log.info("%s: attempt %d is joined on %s", job.run, work.attempt, task.node)
        join(process, follower, stopping)
    return 0


def join(process: Process, follower: ranks.Follower, stopping: Stopping) -> None:
    """Wait for the command's end here; ask it to end when the first node's is over."""
    ended = threading.Event()
    over = [""]

    def watch() -> None:
        while not ended.wait(LOOK_S):
            if follower.is_over():
                over[0] = "the first node's command is over"
                process.signal(15)
                return

    stopping.follow(process)
    threading.Thread(target=watch, daemon=True).start()
    ending = process.wait()
    ended.set()
    stopping.follow(None)
    follower.tell(ending.exit_code, stopping.asked or over[0] or None)
