"""`launcher target clean` on a cluster's shared folder: what no submission needs that is queued or new."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import LauncherError, TargetError
from launcher.node import order as orders
from launcher.node.clearing import Clearing, Found, below, found, is_older, needs_of, remove, told
from launcher.node.order import Order
from launcher.slurm import queue
from launcher.slurm.states import state_of


def clean(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the agent's question of this name: {"shared", "older_s": seconds, "delete": false, "accounting": true}.

    Nothing is said, and nothing removed, while Slurm doesn't tell what is in its queue: TargetError.
    """
    shared, older_s = argument["shared"], float(argument["older_s"])
    before = time.time() - older_s
    every = read(Path(shared, "sweeps"))
    going = in_queue([one.job_name for one in every.values()], accounting=argument.get("accounting", True))
    needed = {path: one for path, one in every.items() if is_needed(path, one, going, before)}
    needs = needs_of(needed.values(), busy=bool(going))
    things = [*sweeps(shared, needed, before), *Clearing(shared, needs, older_s).found()]
    things += [
        found("credentials", path)
        for path in below(Path(shared, "secrets"))
        if path.name not in needs.secrets and is_older(path / "store.json", before)
    ]
    gone = [one for one in things if remove(shared, one)] if argument.get("delete") else []
    return told(things, gone) | {"unsure": []}


def read(sweeps: Path) -> dict[Path, Order]:
    """Return the orders of all submissions by their files. Raises TargetError for one that nobody can read: what it
    needs is not known."""
    found = {}
    for path in sorted(sweeps.glob("*/*.json")):
        if path.name.startswith("plan-"):
            continue
        try:
            found[path] = orders.read(path)
        except LauncherError as e:
            raise TargetError(f"{path} can't be read, so nothing is removed", hint="remove its folder by hand") from e
    return found


def in_queue(names: list[str], *, accounting: bool) -> frozenset[str]:
    """Return which of these jobs may still run. Raises TargetError when Slurm doesn't say."""
    answer = queue.ask(names, accounting=accounting)
    if isinstance(answer, queue.Silence):
        raise TargetError(f"Slurm doesn't say what is in its queue: {answer.why}", hint="the same again later")
    return frozenset(row.name for row in answer.rows if state_of(row.state, answer) != "gone")


def is_needed(path: Path, one: Order, going: frozenset[str], before: float) -> bool:
    """Tell whether a submission is in the queue, waits to get there, or came lately."""
    return one.job_name in going or (path.parent / "waiting").exists() or not is_older(path, before)


def sweeps(shared: str, needed: Mapping[Path, Order], before: float) -> list[Found]:
    """Return the folders of sweeps of which no submission is needed."""
    kept = {path.parent for path in needed}
    return [
        found("sweeps", path) for path in below(Path(shared, "sweeps")) if path not in kept and is_old(path, before)
    ]


def is_old(folder: Path, before: float) -> bool:
    return is_older(folder, before) and all(is_older(path, before) for path in below(folder))
