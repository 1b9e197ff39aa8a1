"""What the verbs of sweeps share: which sweep or run a word names, and where a sweep stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.job.sweeps import Plan
    from launcher.records.runs import Runs
    from launcher.records.standing import Standing
    from launcher.store.objects import Store

NEAREST = 5
RUN = re.compile(r"\d{8}-\d{6}-.")  # how run ids begin


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a word names: a sweep, or a run. `begun` is false for a point of a sweep that has not begun."""

    sweep: str | None = None
    run: str | None = None
    begun: bool = True

    @property
    def is_sweep(self) -> bool:
        return self.run is None


def named(store: Store, place: str | None, word: str) -> Named:
    """Return the sweep or the run that a beginning names. Raises UsageError, with the choice, unless it is one."""
    from launcher.records import sweeps

    found = sweeps.fit(sweeps.ls(store), word)
    if found == [word]:
        return Named(sweep=word)
    runs = beginnings(store, place, word)
    if found and not runs:
        return Named(sweep=only(word, sweeps=found))
    if not runs:
        return planned(store, word)
    run = only(word, sweeps=found, runs=runs)
    return Named(run=run, sweep=sweep_of(store, run))


def beginnings(store: Store, place: str | None, word: str) -> list[str]:
    """Return the runs that begin so, of those that have begun."""
    from launcher.cli.runs import RUN_ID, listed, not_there
    from launcher.records import sweeps
    from launcher.records.reading import runs as every
    from launcher.store import keys

    if RUN_ID.fullmatch(word) and store.exists(keys.job(word)):
        return [word]
    if store.folder is not None or not_there(store):
        return sweeps.fit(every(store), word)
    with listed(place) as runs:
        return runs.fit(word)


def planned(store: Store, word: str) -> Named:
    """Return a point that has not begun. Raises UsageError when the word names none."""
    from launcher.records import sweeps

    found = {run: sweep for sweep, run in sweeps.holding(store, word)} if RUN.match(word) else {}
    if not found:
        hint = "`launcher ls` lists the runs, `launcher status` the sweeps"
        raise UsageError(f"no run or sweep in {store.url} begins with `{word}`", hint=hint)
    run = only(word, runs=list(found))
    return Named(run=run, sweep=found[run], begun=False)


def only(word: str, *, sweeps: Sequence[str] = (), runs: Sequence[str] = ()) -> str:
    """Return the one that was found. Raises UsageError when there are several."""
    found, mixed = [*sweeps, *runs], bool(sweeps and runs)
    if len(found) == 1:
        return found[0]
    some = "\n  ".join(found[:NEAREST])
    more = f"\n  and {len(found) - NEAREST} more" if len(found) > NEAREST else ""
    what = "runs and sweeps" if mixed else "sweeps" if sweeps else "runs"
    raise UsageError(f"{len(found)} {what} begin with `{word}`:\n  {some}{more}", hint="write more of the id")


def sweep_of(store: Store, run: str) -> str | None:
    """Return the sweep that a run is a point of; None where it is none, or its job is gone."""
    from launcher.errors import ObjectMissingError
    from launcher.store import keys

    try:
        told = json.loads(store.get(keys.job(run)))
    except (ObjectMissingError, ValueError):
        return None
    return told.get("sweep") if isinstance(told, dict) else None


@dataclass(frozen=True, kw_only=True)
class View:
    """A sweep, where it stands, and what kept somebody from saying more."""

    standing: Standing
    targets: tuple[str, ...]
    runs: Runs
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        return self.standing.plan


@contextmanager
def viewed(
    store: Store,
    place: str | None,
    sweep: str,
    *,
    offline: bool = False,
    refresh: bool = False,
    plan: Plan | None = None,
) -> Iterator[View]:
    """Give a sweep as it stands now: what the scheduler says is asked first, the store after it.

    `offline` asks nobody: what had not ended when the store was last asked is told as unknown. Who looks again and
    again gives the `plan`, which never changes.
    """
    from launcher.cli.opinion import second_opinion
    from launcher.cli.runs import listed
    from launcher.records import sweeps

    plan = plan or sweeps.plan(store, sweep)
    opinion = second_opinion(store, sweep, ask=not offline)
    with listed(place, offline=offline, refresh=refresh) as runs:
        found = sweeps.read(store, runs, plan, opinion)
        yield View(standing=found, targets=opinion.targets, runs=runs, notes=opinion.notes)


def tell(notes: Sequence[str]) -> None:
    for text in notes:
        click.echo(f"note: {text}", err=True)
