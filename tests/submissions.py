"""Sweeps to submit, for the tests of submitting: a plan, a site, an order, a store; and a program that submits them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.job import Job
from launcher.job.sweeps import Plan
from launcher.node.order import Order
from launcher.profiles.model import Profile
from launcher.slurm import door, submission
from launcher.slurm.ledger import Ledger, read
from launcher.slurm.model import Report
from launcher.slurm.options import options
from launcher.store import open as open_store
from launcher.store.access import Access
from launcher.store.objects import Store

SWEEP = "tiny-0123456789ab"


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One sweep on its way to one site."""

    folder: Path
    plan: Plan
    profile: Profile

    @property
    def store(self) -> Store:
        return open_store(str(self.folder / "store"))

    @property
    def door(self) -> door.Door:
        return door.here(self.profile)

    @property
    def order(self) -> Order:
        shared = self.profile.shared
        return Order(
            sweep=self.plan.sweep,
            token="",
            number=0,
            groups=(),
            plan=f"{shared}/sweeps/{self.plan.sweep}/plan.json",
            tools=f"{shared}/tools/x",
            profile=self.profile,
            store=Access(str(self.folder / "store")),
            image="1" * 64,
        )

    @property
    def ledger(self) -> Ledger:
        return read(self.store, self.plan.sweep)

    def submit(self, indices: Any = None, **more: Any) -> Report:
        points = range(len(self.plan)) if indices is None else indices
        asked = options(self.plan.shared, self.profile, pack=self.plan.pack)
        return submission.submit(self.store, self.plan, points, door=self.door, order=self.order, options=asked, **more)

    def repair(self, **more: Any) -> Report:
        return submission.repair(self.store, self.plan.sweep, door=self.door, **more)


def job(**more: Any) -> Job:
    told = {"run": "20260101-120000-tiny-abcdef", "name": "tiny", "lock": "0" * 64, "image": "1" * 64, "code": "2" * 64}
    return Job(**{**told, "command": "true", "argv": (), **more})


def plan(points: int, **more: Any) -> Plan:
    return Plan(
        sweep=SWEEP,
        name="tiny",
        when="2026-01-01T12:00:00.000Z",
        shared=job(),
        names=("i",),
        rows=tuple((index,) for index in range(points)),
        digests=tuple(f"{index:064d}" for index in range(points)),
        **more,
    )


def errand(folder: Path, points: int, *, profile: dict[str, Any] | None = None, **more: Any) -> Errand:
    """Return a sweep of so many points; `profile` are facts of the site, `more` those of the plan."""
    shared = folder / "shared"
    (shared / "sweeps").mkdir(parents=True, exist_ok=True)
    site = replace(Profile(name="lab", shared=str(shared), cluster="lab"), **(profile or {}))
    return Errand(folder=folder, plan=plan(points, **more), profile=site)


def die_at(moment: str) -> None:
    """Let this process end by SIGKILL at a moment of submitting: a name of MOMENTS, before or after what it says."""
    import signal

    from launcher.slurm import ledger, placing, sbatch

    when, _, what = moment.partition(" ")
    where = {"intent": (ledger, "intend"), "began": (placing, "write_whole"), "sbatch": (sbatch, "call")}
    where |= {"outcome": (placing.Site, "tell"), "answer": (ledger, "answer")}
    place, name = where[what]
    real = getattr(place, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if what == "began" and not str(args[0]).endswith("began"):
            return real(*args, **kwargs)
        if when == "after":
            real(*args, **kwargs)
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, deadly)


MOMENTS = [
    f"{when} {what}" for what in ("intent", "began", "sbatch", "outcome", "answer") for when in ("before", "after")
]


if __name__ == "__main__":  # FOLDER POINTS MOMENT: submit, and die at that moment
    folder, points, moment = sys.argv[1:4]
    die_at(moment) if moment else None
    errand(Path(folder), int(points)).submit()
