"""Sweeps in the store: which there are, their plans, and what is known of their points."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from launcher.errors import ObjectExistsError, ObjectMissingError, StoreError, UsageError
from launcher.job.sweeps import Plan, from_json, to_json
from launcher.records.brief import Brief
from launcher.records.standing import Known, Sight, Standing, standing
from launcher.store import keys
from launcher.store.objects import Store

if TYPE_CHECKING:
    from launcher.records.runs import Runs

NEAREST = 5
ID = re.compile(r"(.+)-[0-9a-f]{12}(-\d+)?")


def ls(store: Store) -> tuple[str, ...]:
    """Return the ids of all sweeps, sorted."""
    return tuple(sorted(keys.unquoted(part) for part in store.folders(keys.sweeps())))


def plan(store: Store, sweep: str) -> Plan:
    """Read a sweep's plan. Raises UsageError when there is no such sweep, StoreError."""
    try:
        return from_json(store.get(keys.plan(sweep)))
    except ObjectMissingError:
        raise UsageError(f"there is no sweep `{sweep}` in {store.url}", hint="`launcher status` lists them") from None


def settle(store: Store, made: Plan) -> Plan:
    """Write a plan; return it, or the one that somebody else has written for the same sweep before."""
    try:
        store.create(keys.plan(made.sweep), to_json(made))
        return made
    except ObjectExistsError:
        return plan(store, made.sweep)


def find(store: Store, prefix: str) -> str:
    """Return the sweep whose id begins with `prefix`. Raises UsageError, with the choice, when it isn't exactly one."""
    fitting = fit(ls(store), prefix)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise UsageError(f"no sweep in {store.url} begins with `{prefix}`", hint="`launcher status` lists the sweeps")
    some = "\n  ".join(fitting[:NEAREST])
    more = f"\n  and {len(fitting) - NEAREST} more" if len(fitting) > NEAREST else ""
    raise UsageError(f"{len(fitting)} sweeps begin with `{prefix}`:\n  {some}{more}", hint="write more of the id")


def fit(every: Collection[str], prefix: str) -> list[str]:
    """Return the names that begin with `prefix`; only the one that is exactly that, where there is one."""
    if prefix in every:
        return [prefix]
    return sorted(name for name in every if prefix and name.startswith(prefix))


def cancelled(store: Store, sweep: str) -> frozenset[int]:
    """Return the points that are not wanted any more."""
    try:
        told = json.loads(store.get(keys.cancelled(sweep)))
        return frozenset(int(index) for index in told["points"])
    except ObjectMissingError:
        return frozenset()
    except (ValueError, KeyError, TypeError) as e:
        raise StoreError(f"{store.url}: {keys.cancelled(sweep)} can't be read: {e}") from e


def finished(store: Store, of: Plan, briefs: Mapping[str, Brief]) -> dict[str, str]:
    """Return which run has finished each point that the sweep's own runs have not: by the digests of points.

    A sweep that was made to run again (`--again`) does not care.
    """
    if repeated(of.sweep):
        return {}
    own = {run for run, told in briefs.items() if told.state == "succeeded"}
    open_ones = {digest for digest, run in zip(of.digests, of.runs, strict=True) if run not in own}
    if not open_ones:
        return {}
    there = {entry.key.rpartition("/")[2] for entry in store.list(keys.points(of.group))} & open_ones
    wanted = {keys.point(of.group, digest): digest for digest in there}
    found = store.get_many(wanted) if wanted else ()
    return {wanted[key]: data.decode().strip() for key, data in found if data}


class Opinion(Protocol):
    """What schedulers say of the points of a sweep, and what was submitted to them: see `Known`."""

    @property
    def seen(self) -> Mapping[int, Sight] | None: ...
    @property
    def sent(self) -> Collection[int]: ...
    @property
    def held(self) -> Collection[int]: ...
    @property
    def declined(self) -> Mapping[int, str]: ...


def read(store: Store, runs: Runs, of: Plan, opinion: Opinion) -> Standing:
    """Say where a sweep stands, by the index of runs, which must be up to date and asked after the scheduler was."""
    briefs = {told.run: told for told in runs.get(of.runs)}
    done = finished(store, of, briefs)
    others = {told.run: told for told in runs.get(sorted(set(done.values()) - set(of.runs)))}
    marked = cancelled(store, of.sweep)
    known = Known(
        briefs=briefs,
        seen=opinion.seen,
        sent=opinion.sent,
        held=opinion.held,
        declined=opinion.declined,
        cancelled=marked,
        done=done,
        others=others,
    )
    return standing(of, known)


def holding(store: Store, prefix: str) -> list[tuple[str, str]]:
    """Return (sweep, run) of every planned run whose id begins with `prefix`: also of those that have not begun.

    Only plans of experiments whose name a run id of that beginning can hold are read.
    """
    parts = prefix.split("-", 2)
    name = parts[2] if len(parts) == 3 else ""
    found = []
    for sweep in ls(store):
        if may_hold(sweep, name):
            found += [(sweep, run) for run in plan(store, sweep).runs if run.startswith(prefix)]
    return found


def may_hold(sweep: str, rest: str) -> bool:
    """Tell whether a run id that goes on with `rest` after its time may belong to a sweep."""
    match = ID.fullmatch(sweep)
    name = match[1][:32] if match else sweep
    return rest.startswith(name) or name.startswith(rest)


def repeated(sweep: str) -> bool:
    """Tell whether a sweep was made by `--again`: whatever else has finished its points does not count for it."""
    match = ID.fullmatch(sweep)
    return bool(match and match[2])
