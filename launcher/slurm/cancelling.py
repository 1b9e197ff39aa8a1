"""Cancels points: first the store says that they are not wanted any more, then Slurm is told.

Nodes look at the mark before they begin a point, so one that can't be reached now, or comes back from the queue of a
scheduler that didn't answer, ends by itself.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.errors import LauncherError
from launcher.records.sweeps import cancelled
from launcher.runner.clock import stamp
from launcher.slurm import ledger as ledgers
from launcher.slurm.door import Door
from launcher.slurm.ledger import Ledger
from launcher.slurm.model import Report, Submission
from launcher.slurm.splitting import ranges
from launcher.slurm.submission import repair
from launcher.store import keys
from launcher.store.objects import Store

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What cancelling came to. `jobs` were named to scancel; `beside` are points that run on, as the task that they are
    packed into has others; `complaints` say what could not be reached."""

    points: tuple[int, ...]
    jobs: tuple[str, ...] = ()
    beside: tuple[int, ...] = ()
    complaints: tuple[str, ...] = ()
    report: Report | None = None


def mark(store: Store, sweep: str, points: Iterable[int]) -> frozenset[int]:
    """Say in the store that points are not wanted any more; return all that are not."""
    every = cancelled(store, sweep) | frozenset(points)
    write(store, sweep, every)
    return every


def unmark(store: Store, sweep: str, points: Iterable[int]) -> frozenset[int]:
    """Say that points are wanted after all (`launcher retry`); return those that still are not."""
    before = cancelled(store, sweep)
    left = before - frozenset(points)
    if left != before:
        write(store, sweep, left)
    return left


def write(store: Store, sweep: str, points: frozenset[int]) -> None:
    told = {"version": VERSION, "points": sorted(points), "when": stamp(), "who": who()}
    store.put(keys.cancelled(sweep), json.dumps(told).encode())


def who() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def cancel(store: Store, sweep: str, points: Iterable[int], *, doors: Sequence[Door]) -> Cancelled:
    """Cancel points at every site that can be reached. Raises StoreError when not even the mark could be written."""
    wanted = frozenset(points)
    every = mark(store, sweep, wanted)
    found = Cancelled(points=tuple(sorted(wanted)))
    for door in doors:
        try:
            report = repair(store, sweep, door=door, cancelled=every)  # what nobody knows of may be in Slurm
            jobs, beside = to_cancel(ledgers.read(store, sweep), door, every, wanted)
            complaints = door.ask("cancel", {"jobs": jobs}) if jobs else []
        except LauncherError as e:
            complaint = f"{door.profile.name} can't be reached: {e.problems[0].message}"
            found = with_site(found, complaints=[complaint])
            continue
        complaints += [f"{one.job_name}: {why}" for one, why in report.unknown if door.owns(one)]
        found = with_site(found, jobs, beside, complaints, report)
    return found


def with_site(
    found: Cancelled,
    jobs: Sequence[str] = (),
    beside: Sequence[int] = (),
    complaints: Sequence[str] = (),
    report: Report | None = None,
) -> Cancelled:
    return Cancelled(
        points=found.points,
        jobs=(*found.jobs, *jobs),
        beside=(*found.beside, *beside),
        complaints=(*found.complaints, *complaints),
        report=report or found.report,
    )


def to_cancel(
    ledger: Ledger, door: Door, every: frozenset[int], wanted: frozenset[int]
) -> tuple[list[str], tuple[int, ...]]:
    """Return what scancel is told, and the points that share a task with others that go on. Pure."""
    jobs: list[str] = []
    beside: list[int] = []
    for one, job in ledger.taken:
        if not door.owns(one) or not wanted.intersection(one.points):
            continue
        over = [task for task, group in enumerate(one.groups) if every.issuperset(group)]
        jobs += named(one, job, over)
        beside += [point for group in one.groups for point in group if point in wanted and not every.issuperset(group)]
    return jobs, tuple(beside)


def named(one: Submission, job: str, tasks: Sequence[int]) -> list[str]:
    """Return tasks of an array as scancel takes them; the whole array by its id alone."""
    if not tasks:
        return []
    return [job] if len(tasks) == len(one.groups) else [f"{job}_[{ranges(tasks)}]"]
