"""`launcher status`: what goes on in a store: sweeps, runs that run now and when they last gave a sign, failures."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.listing import age, duration, number, print_table, store_option
from launcher.cli.ls import metrics, shown, state_of
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.runs import STATES, index_options, listed, moment
from launcher.digest import sha256_bytes
from launcher.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from launcher.records.brief import Brief
    from launcher.records.runs import Runs
    from launcher.store.objects import Store

ALL_WELL, BADLY, NOT_OVER = 0, 1, 3  # exit codes for runs that are named
FAILURES = ("failed", "killed", "refused")
WATCH_S, WATCH_FOLDER_S = 5.0, 2.0
CLEAR = "\033[H\033[J"  # ECMA-48: cursor home, erase to the end
HEADS = ("RUN", "NAME", "STATE", "BEGAN", "LAST SIGN", "STEP", "METRICS")


@click.command()
@click.argument("named", nargs=-1, metavar="[SWEEP|RUN]...")
@store_option
@click.option("--on", "target", metavar="TARGET", help="What is on this box: it is asked, and no store.")
@click.option("--name", help="Only runs of the experiment with this name.")
@click.option("--since", default="1d", show_default=True, callback=moment, metavar="WHEN", help="Failures since then.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many of each kind.")
@click.option("--watch", is_flag=True, help="On a terminal, go on until all is over.")
@index_options
@json_option
@click.pass_context
def status(
    ctx: click.Context,
    named: tuple[str, ...],
    store: str | None,
    target: str | None,
    name: str | None,
    since: float,
    limit: int,
    watch: bool,
    offline: bool,
    refresh: bool,
    as_json: bool,
) -> int:
    """Say what goes on: sweeps, how many runs are in which state, those that run, and what failed.

    With SWEEPs and RUNs (beginnings of ids are enough) only of these; the exit code is then 0 when all of them have
    succeeded, 1 when one failed, was killed, refused or lost, 3 when none did but one is not over, or nobody knows.
    Clusters and boxes that they are on are asked, too: one that does not answer makes nothing failed.
    """
    if watch and (offline or as_json or not sys.stdout.isatty()):
        raise UsageError("--watch draws on a terminal, of what the store says now", hint="leave it out")
    if target is not None:
        from launcher.cli.box_status import status_on

        return status_on(target, named, as_json)
    if named and not offline and (found_sweeps := sweeps_of(store, named)):
        return status_of_sweeps(store, found_sweeps, limit, watch, refresh, as_json)
    with listed(store, offline=offline, refresh=refresh, about=named) as runs:
        while True:
            found = heard(runs, runs.get([runs.find(run) for run in named]))
            report(runs, found, bool(named), name, since, limit, watch, as_json)
            if not watch or not (going(found) if named else runs.count(name=name, states=("queued", "running"))):
                return code(found)
            again(runs)


def heard(runs: Runs, found: list[Brief]) -> list[Brief]:
    """Return runs with what the boxes say that they are on."""
    from launcher.cli.box_status import with_boxes

    return with_boxes(runs, found) if found else found


def sweeps_of(place: str | None, words: Sequence[str]) -> tuple[str, ...]:
    """Return the sweeps that words name; none when they name runs. Raises UsageError for some of both."""
    from launcher import access
    from launcher.cli.sweeps import named
    from launcher.records import sweeps

    opened = access.open_to_read(place)
    if not sweeps.ls(opened):
        return ()
    found = [named(opened, place, word) for word in words]
    if len({one.is_sweep for one in found}) > 1:
        raise UsageError("these are runs and sweeps", hint="ask for runs, or for sweeps")
    if found[0].is_sweep or any(one.sweep and not one.begun for one in found):
        return tuple(dict.fromkeys(one.sweep for one in found if one.sweep))
    return ()


def status_of_sweeps(
    place: str | None, names: Sequence[str], limit: int, watch: bool, refresh: bool, as_json: bool
) -> int:
    """Say how sweeps stand; return the worst of their exit codes."""
    from launcher import access
    from launcher.cli import sweep_status
    from launcher.cli.sweeps import tell, viewed

    opened = access.open_to_read(place)
    while True:
        views = []
        for name in names:
            with viewed(opened, place, name, refresh=refresh) as view:
                views.append(view)
        if watch:
            sys.stdout.write(CLEAR)
        tell([note for view in views for note in view.notes])
        if as_json:
            print_json([sweep_status.facts(view) for view in views])
        for view in [] if as_json else views:
            sweep_status.report(view, limit)
        codes = {sweep_status.code(view.standing) for view in views}
        if not watch or all(view.standing.over for view in views):
            return next(code for code in (BADLY, NOT_OVER, ALL_WELL) if code in codes)
        time.sleep(WATCH_S if opened.folder is None else WATCH_FOLDER_S)


def again(runs: Runs) -> None:
    """Wait, and look again; a store that doesn't answer may do so next time."""
    time.sleep(WATCH_S if runs.store and runs.store.folder is None else WATCH_FOLDER_S)
    try:
        runs.update()
    except UnreachableError as e:
        click.echo(f"warning: {e.problems[0].message}", err=True)
        time.sleep(WATCH_S)


def going(found: Sequence[Brief]) -> bool:
    return any(told.state in ("queued", "running") for told in found)


def code(found: Sequence[Brief]) -> int:
    """Return the exit code: of no runs in particular it is 0."""
    states = {told.state for told in found}
    if states & set(FAILURES):
        return BADLY
    return ALL_WELL if states <= {"succeeded"} else NOT_OVER


def report(
    runs: Runs,
    found: list[Brief],
    only: bool,
    name: str | None,
    since: float,
    limit: int,
    watch: bool,
    as_json: bool,
) -> None:
    if as_json:
        print_json([shown(told) for told in found] if only else facts(runs, name, since, limit))
        return
    if watch:
        sys.stdout.write(CLEAR)
    if only:
        print_table(HEADS, [row(told) for told in found], states=2)
        return
    counts = counted(runs, name)
    print_sweeps(runs, limit)
    print_text(f"{runs.url}: {(all_of := sum(counts.values()))} run{'s' * (all_of != 1)}")
    print_text("  " + (", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"))
    for title, part in parts(runs, name, since, limit).items():
        if part:
            print_text(f"\n{title}")
            heads = HEADS if title == "going on" else ENDED_HEADS
            print_table(heads, [row(told) if heads is HEADS else ended_row(told) for told in part], states=2)


ENDED_HEADS = ("RUN", "NAME", "STATE", "ENDED", "LAST SIGN", "REASON")


def row(told: Brief) -> tuple[str, ...]:
    """Return what is told of a run that is named, or goes on."""
    began, sign = age(told.started or told.queued), age(told.last_sign)
    return (told.run, told.name or "-", state_of(told), began, sign, step(told), metrics(told))


def ended_row(told: Brief) -> tuple[str, ...]:
    return (told.run, told.name or "-", state_of(told), age(told.ended), age(told.last_sign), told.reason or "-")


def step(told: Brief) -> str:
    return "-" if told.step is None else number(told.step)


def counted(runs: Runs, name: str | None) -> dict[str, int]:
    """Return how many runs are in each state that there is one in."""
    counts = {state: runs.count(name=name, states=(state,)) for state in STATES}
    return {state: count for state, count in counts.items() if count}


def parts(runs: Runs, name: str | None, since: float, limit: int) -> dict[str, list[Brief]]:
    """Return the runs that somebody should look at: newest first, at most so many of each kind."""
    failed = runs.select(name=name, states=FAILURES, ended=since, limit=limit)
    return {
        "going on": runs.select(name=name, states=("queued", "running"), limit=limit),
        "no sign of life": runs.select(name=name, states=("unknown",), limit=limit),
        f"failed in the last {duration(max(0.0, time.time() - since))}": failed,
    }


def facts(runs: Runs, name: str | None, since: float, limit: int) -> dict[str, object]:
    going_on, silent, failed = parts(runs, name, since, limit).values()
    told = {"going_on": going_on, "unknown": silent, "failures": failed}
    lists = {key: [shown(one) for one in some] for key, some in told.items()}
    return {"store": runs.url, "as_of": runs.as_of, "counts": counted(runs, name), **lists}


def print_sweeps(runs: Runs, limit: int) -> None:
    """Print the newest sweeps of a store, with what their runs came to as far as these have begun."""
    if runs.store is None or not (found := newest_sweeps(runs.store, limit)):
        return
    rows = []
    for told in found:
        counts = runs.states(told["first"], told["last"])
        rest = told["points"] - sum(counts.values())
        states = [*(f"{count} {state}" for state, count in counts.items()), *([f"{rest} not begun"] if rest else [])]
        rows.append((told["sweep"], str(told["points"]), age(told["planned"]), ", ".join(states)))
    print_text("sweeps")
    print_table(("SWEEP", "POINTS", "PLANNED", "RUNS"), rows)
    print_text("")


def newest_sweeps(store: Store, limit: int) -> list[dict[str, Any]]:
    """Return a line of each of the newest sweeps. Plans never change: this machine keeps a line of each."""
    from launcher.cache import Cache
    from launcher.records import sweeps

    cache, found = Cache(), []
    for name in sweeps.ls(store):
        key = sha256_bytes(f"{store.url} {name}".encode())
        told = cache.note("sweeps", key)
        if not isinstance(told, dict) or "last" not in told:
            plan = sweeps.plan(store, name)
            told = {"sweep": name, "planned": plan.when, "points": len(plan.runs)}
            told |= {"first": min(plan.runs), "last": max(plan.runs)}
            cache.write_note("sweeps", key, told)
        found.append(told)
    return sorted(found, key=lambda told: str(told["planned"]), reverse=True)[:limit]
