"""Several nodes in one attempt: the first one leads and tells the others by files on the shared folder.

    <submission>/<task>.<restart>/<round>.json        the leader begins an attempt: which, and where it can be met
    <submission>/<task>.<restart>/<round>.<rank>.json how the command of another node ended
    <submission>/<task>.<restart>/over                there will be no further attempt

A follower that ends badly ends the attempt: the leader's command is given a moment to say why itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from launcher.cache import written_whole
from launcher.errors import TargetError
from launcher.node.order import Order
from launcher.node.stopping import Stopping
from launcher.node.task import Task
from launcher.profiles.places import Places

LOOK_S = 0.3
MOMENT_S = 5.0  # after another node's command failed, before the leader's is asked to end


def folder(order: Order, task: Task) -> Path:
    submission = Path(Places(order.profile.shared).submission(order.sweep, order.token))
    return submission / f"{task.index}.{task.restart}"


def variables(task: Task, address: str, port: int) -> dict[str, str]:
    """Return what torch.distributed reads (env:// rendezvous), and torchrun as defaults of its options (PET_*)."""
    return {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "NODE_RANK": str(task.rank),
        "GROUP_RANK": str(task.rank),
        "NNODES": str(task.nodes),
        "PET_NNODES": str(task.nodes),
        "PET_NODE_RANK": str(task.rank),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": str(port),
        "PET_RDZV_ID": task.own_job,
    }


class Leader:
    """The first node's side. `number` counts attempts in this task."""

    def __init__(self, order: Order, task: Task) -> None:
        self.place, self.task, self.number = folder(order, task), task, 0
        self.fallen: str | None = None
        self.ended = threading.Event()

    def begin(self, told: dict[str, Any]) -> None:
        """Let the other nodes begin an attempt."""
        self.number += 1
        self.fallen = None
        self.place.mkdir(parents=True, exist_ok=True)
        write(self.place / f"{self.number}.json", {**told, "address": self.task.node, "port": self.task.port})

    def watch(self, stopping: Stopping) -> None:
        """Look after the others in a thread, until `end`."""
        self.ended.clear()
        threading.Thread(target=self.work, args=(stopping,), daemon=True).start()

    def work(self, stopping: Stopping) -> None:
        while not self.ended.wait(LOOK_S):
            if bad := self.bad():
                self.fallen = bad
                if not self.ended.wait(MOMENT_S):
                    stopping.end_command()
                return

    def bad(self) -> str | None:
        """Return what is wrong with another node, or None."""
        for path in sorted(self.place.glob(f"{self.number}.*.json")):
            told = load(path)
            if told and told["code"] and not told.get("asked"):
                return f"the command on {told['node']} (node {told['rank']}) ended with code {told['code']}"
        return None

    def end(self) -> None:
        """The leader's command is over: the others' end too, by `again` or `over`."""
        self.ended.set()
        self.fallen = self.fallen or self.bad()
        write(self.place / f"{self.number}.ended", {})

    def over(self) -> None:
        """Let the other nodes go."""
        with contextlib.suppress(OSError):
            self.place.mkdir(parents=True, exist_ok=True)
            write(self.place / "over", {})


class Follower:
    """Another node's side."""

    def __init__(self, order: Order, task: Task) -> None:
        self.place, self.task, self.number = folder(order, task), task, 0

    def next(self, stopping: Stopping) -> dict[str, Any] | None:
        """Wait for the leader's next attempt; None when there is none. Raises Stopped."""
        while True:
            self.look()
            if found := load(self.place / f"{self.number + 1}.json"):
                self.number += 1
                return found
            if (self.place / "over").exists():
                return None
            stopping.sleep(LOOK_S)

    def look(self) -> None:
        """Read the folder, so that a network file system asks its server for what is new there."""
        with contextlib.suppress(OSError):
            os.listdir(self.place)  # noqa: PTH208 - for its effect

    def is_over(self) -> bool:
        self.look()
        return (self.place / f"{self.number}.ended").exists() or (self.place / "over").exists()

    def tell(self, code: int, asked: str | None) -> None:
        told = {"rank": self.task.rank, "node": self.task.node, "code": code, "asked": asked}
        write(self.place / f"{self.number}.{self.task.rank}.json", told)


def write(place: Path, told: dict[str, Any]) -> None:
    """Write a small file whole. Raises TargetError where the shared folder can't be written to."""
    try:
        with written_whole(place) as part:
            part.write_text(json.dumps(told | {"time": time.time()}))
    except OSError as e:
        raise TargetError(f"{place} can't be written: {e.strerror}", hint="is the shared folder full?") from e


def load(place: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(place.read_bytes())
        return found
    except (OSError, ValueError):
        return None
