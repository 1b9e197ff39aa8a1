"""The host side from its first to its last moment: reads the order, runs its points, tells Slurm what follows.

Exit codes: 0 done; the command's own when it failed; 75 when it is requeued or held (told.py says which is which).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.errors import LauncherError, StoreError
from launcher.hearing import heard
from launcher.job import Job
from launcher.job.sweeps import Plan
from launcher.job.sweeps import from_json as plan_from
from launcher.node import order as orders
from launcher.node import scontrol, stopping, task, told
from launcher.node.avoiding import avoid
from launcher.node.order import Order, python
from launcher.node.stopping import Stopped, Stopping
from launcher.node.task import Task
from launcher.node.told import TEMPORARY, Outcome
from launcher.target.model import StillRunning

CONTINUE_S = 300.0
UNREADY = 70  # EX_SOFTWARE of sysexits.h(3): a bug, or an order that can't be read
MOST_RESTARTS = 20  # for the sake of the store alone a task is not requeued more often
log = logging.getLogger("launcher.node")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a task, and end this process with its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if "--debug" in words else logging.INFO,
        format="launcher: %(message)s",
    )
    try:
        with heard():
            code = run(Path(words[0]), step_of(words))
    except LauncherError as e:
        log.error("%s", e)
        code = e.exit_code
    except BaseException:  # a bug: told, and never taken for the command's own end
        log.exception("a bug in launcher")
        code = UNREADY
    stopping.end_now(code)


def step_of(words: Sequence[str]) -> int | None:
    return int(words[words.index("--step") + 1]) if "--step" in words else None


def run(file: Path, step: int | None) -> int:
    """Run the task, or one step of it; return the exit code. Raises LauncherError for an order that can't be read."""
    order, here = orders.read(file), task.here()
    stop = Stopping(here, order.profile.warn_s)
    stop.install()
    plan = plan_from(read_plan(order))
    group = order.groups[here.index]
    if here.rank:
        return follow(order, plan, group[0], here, stop)
    place = told.path(order, here, step)
    told.reserve(place)
    if step is None and len(group) > 1:
        outcome = packed(order, file, here, plan)
    else:
        outcome = alone(order, plan, group[step or 0], here, stop)
    if step is not None:
        told.tell(place, outcome, here)
        return outcome.code
    return finish(order, file, here, outcome, plan.job(group[0]))


def read_plan(order: Order) -> bytes:
    try:
        return Path(order.plan).read_bytes()
    except OSError as e:
        raise LauncherError(f"the plan {order.plan} can't be read: {e.strerror}", hint="submit again") from e


def follow(order: Order, plan: Plan, index: int, here: Task, stop: Stopping) -> int:
    """Run another node's part. It ends well also when it is asked to stop: srun ends all nodes when one ends badly, and
    the first one may still be storing."""
    from launcher.node.follow import follow as join

    with contextlib.suppress(Stopped):
        return join(order, plan, index, here, stop)
    return 0


def packed(order: Order, file: Path, here: Task, plan: Plan) -> Outcome:
    from launcher.node import packing

    return packing.run(order, file, here, plan.job(order.groups[here.index][0]), "srun")


def alone(order: Order, plan: Plan, index: int, here: Task, stop: Stopping) -> Outcome:
    """Run one point; what went wrong around it is told as an outcome."""
    from launcher.node.point import Point

    try:
        return Point(order, plan, index, here, stop).to_the_end()
    except Stopped as e:
        return stopped(stop, str(e), plan.runs[index])
    except (StoreError, StillRunning) as e:
        log.error("%s", e)
        again = here.restart < MOST_RESTARTS
        decision = "requeue" if again else "hold"
        return Outcome(decision=decision, kind="store", why=str(e), code=TEMPORARY, run=plan.runs[index])  # type: ignore[arg-type]
    except LauncherError as e:
        log.error("%s", e)
        return Outcome(decision="hold", kind="refused", why=str(e), code=TEMPORARY, run=plan.runs[index])
    except Exception as e:  # else the batch script would take it for a kill, and run it again
        log.exception("a bug in launcher")
        return Outcome(decision="hold", kind="bug", why=f"a bug in launcher: {e!r}", code=UNREADY, run=plan.runs[index])


def stopped(stop: Stopping, why: str, run: str) -> Outcome:
    """Return what follows when nothing had begun yet."""
    if stop.asked in ("time limit", "preempted"):
        return Outcome(decision="requeue", kind=stop.asked, why=why, code=TEMPORARY, run=run)
    return Outcome(decision="hold", kind="asked", why=why, code=TEMPORARY, run=run)


def finish(order: Order, file: Path, here: Task, outcome: Outcome, job: Job) -> int:
    """Say what came of the task, requeue it where that was decided, and let the rest of the sweep go on."""
    place = told.path(order, here)
    if outcome.decision == "requeue" and not (order.profile.requeue and job.restart):
        outcome = held(outcome, "the spec says `restart: false`" if not job.restart else "this site has no requeue")
        tell_held(order, outcome)
    told.tell(place, outcome, here)
    if outcome.decision == "requeue":
        stopping.ignore_all()
        refusal = scontrol.requeue(here)
        if refusal is None:
            if outcome.kind == "refused":
                avoid(here, order.profile, job)
            return outcome.code
        outcome = held(outcome, refusal)
        told.tell(place, outcome, here)
        tell_held(order, outcome)
    go_on(order, file)
    return outcome.code


def held(outcome: Outcome, why: str) -> Outcome:
    from dataclasses import replace

    says = f"{outcome.why}; it can't be requeued ({why}): `launcher submit` goes on from its last checkpoint"
    return replace(outcome, decision="hold", why=says)


def tell_held(order: Order, outcome: Outcome) -> None:
    """Say so in the store as well, where that can be reached."""
    from launcher import records
    from launcher.node.reach import open_store

    if outcome.run and outcome.attempt:
        facts = {"decision": outcome.decision, "cause": outcome.kind, "why": outcome.why}
        with contextlib.suppress(LauncherError):
            records.parted(open_store(order), outcome.run, outcome.attempt, facts)


def go_on(order: Order, file: Path) -> None:
    """Let what of the sweep did not fit into the queue follow. What fails here is the next task's to do.

    Where something waits there is a file `waiting` beside the orders: a task that ends looks for no more.
    """
    if not (file.parent / "waiting").exists():
        return
    from launcher.process import run as run_program

    words = [*python(order), "-m", "launcher.slurm.agent", "continue", str(file)]
    try:
        run_program(words, env=os.environ, timeout_s=CONTINUE_S)
    except LauncherError as e:
        log.warning("the rest of the sweep could not be submitted from here: %s", e)
