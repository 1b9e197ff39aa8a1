"""What the host side of a task says to the batch script around it, and to those who look after the submission.

    <submission>/<task>.state.json         {"decision": ..., "why": ..., "code": ..., "run": ..., "attempt": ..., ...}
    <submission>/<task>.<step>.state.json  the same of one of the points that are packed into a task

| decision | means |
| --- | --- |
| done | the point is finished, or nobody wants it any more |
| failed | the command's own failure; it is not tried again |
| requeue | it goes on in the next attempt; Slurm has been told |
| hold | nothing more happens by itself; what is left to do is done by submitting again, and `why` says the reason |

Where there is none when the host side has ended, it was killed, and the task has to be requeued.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from launcher.node.order import Order
from launcher.node.task import Task
from launcher.profiles.places import Places

Decision = Literal["done", "failed", "requeue", "hold", "again"]  # "again" is never told: it is done at once
BYTES = 4096  # one block of a file system: what fits into it needs no new space
TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h(3): nothing is lost, and it is not over


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a point in this task. `code` is the exit code of the host side."""

    decision: Decision
    why: str = ""
    code: int = 0
    run: str | None = None
    attempt: int | None = None
    kind: str | None = (
        None  # time limit, preempted, lost, memory, command, asked, store, refused, stuck, superseded, bug
    )


def path(order: Order, task: Task, step: int | None = None) -> Path:
    """Return where the state of a task, or of one of its steps, lies."""
    name = f"{task.index}.state.json" if step is None else f"{task.index}.{step}.state.json"
    return Path(Places(order.profile.shared).submission(order.sweep, order.token), name)


def reserve(place: Path) -> None:
    """Take the room that the last word will need, so that a file system that fills up can't keep it out."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        reserved(place).write_bytes(b" " * BYTES)


def tell(place: Path, outcome: Outcome, task: Task) -> None:
    """Write the state, whole. What can't be written at all is left: the exit code says as much as a script needs."""
    told = asdict(outcome) | {"restart": task.restart, "node": task.node, "job": task.name}
    told["why"] = told["why"].encode("ascii", "replace").decode()[: BYTES // 2]
    data = json.dumps(told).encode().ljust(BYTES - 1) + b"\n"
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(reserved(place), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, data, 0)
        finally:
            os.close(descriptor)
        reserved(place).replace(place)


def reserved(place: Path) -> Path:
    return place.with_name(f".{place.name}.part")


def read(place: Path) -> Outcome | None:
    """Return what was told; None where nothing was, or it can't be read."""
    try:
        told = json.loads(place.read_bytes())
        return Outcome(**{name: told[name] for name in Outcome.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def together(outcomes: list[Outcome]) -> Outcome:
    """Return what comes of a task whose points came to these outcomes.

    One that has to go on takes the whole task along: those that are over are passed over then.
    """
    for decision in ("requeue", "hold", "failed"):
        fitting = [one for one in outcomes if one.decision == decision]
        if fitting:
            rest = f" ({len(fitting)} of {len(outcomes)} points)" if len(outcomes) > 1 else ""
            return Outcome(decision=fitting[0].decision, why=fitting[0].why + rest, code=fitting[0].code)
    return Outcome(decision="done")
