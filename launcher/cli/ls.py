"""`launcher ls`: list runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from launcher.cli.listing import age, duration, number, print_table, store_option
from launcher.cli.output import json_option, print_json
from launcher.cli.runs import filter_options, index_options, listed
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.records.brief import Brief
    from launcher.records.runs import Runs

HEADS = ("RUN", "NAME", "STATE", "BEGAN", "TOOK", "PARAMETERS", "METRICS")
SHOWN = 3  # metrics in a row
LONGEST = 40  # characters of a parameter: a text of a page would push all else out of sight
SORTS = ("began", "ended", "took", "name", "state")


@click.command()
@store_option
@filter_options
@click.option("--sweep", metavar="SWEEP", help="Only runs of this sweep, those that have begun.")
@click.option("--sort", type=click.Choice(SORTS), default="began", show_default=True, help="Newest or longest first.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@click.option("--all", "every", is_flag=True, help="All of them.")
@index_options
@json_option
def ls(
    store: str | None,
    name: str | None,
    state: tuple[str, ...],
    since: float | None,
    sweep: str | None,
    sort: str,
    limit: int,
    every: bool,
    offline: bool,
    refresh: bool,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    with listed(store, offline=offline, refresh=refresh) as runs:
        of = planned(runs, sweep) if sweep else None
        most = None if every or sort != "began" or of else limit
        found = runs.select(name=name, states=state, since=since, limit=most)
        found = found if of is None else [told for told in found if told.run in of]
        whole = len(found) if most is None or len(found) < limit else runs.count(name=name, states=state, since=since)
        found = found if sort == "began" else sorted_by(sort, found)
        found = found if every else found[:limit]
        if as_json:
            print_json([shown(told) for told in found])
            return
        print_table(HEADS, [row(told) for told in found], states=2)
        if len(found) < whole:
            click.echo(
                f"{whole - len(found)} {'others' * (sort != 'began') or 'older ones'} are not shown: --all", err=True
            )


def planned(runs: Runs, prefix: str) -> frozenset[str]:
    """Return the run ids of a sweep. Raises UsageError when there is none of that beginning."""
    from launcher.records import sweeps

    if runs.store is None:
        raise UsageError("which runs a sweep has stands in the store", hint="leave `--offline` out")
    return frozenset(sweeps.plan(runs.store, sweeps.find(runs.store, prefix)).runs)


def sorted_by(sort: str, found: list[Brief]) -> list[Brief]:
    """Sort runs, which come newest first, and stay so where they are equal."""
    if sort in ("name", "state"):
        return sorted(found, key=lambda told: getattr(told, sort) or "")
    key = {"ended": lambda told: told.ended or "", "took": lambda told: told.duration_s or 0.0}[sort]
    return sorted(found, key=key, reverse=True)


def shown(told: Brief) -> dict[str, object]:
    """Return what a list tells of a run to a program."""
    names = ("run", "name", "state", "reason", "queued", "started", "ended", "duration_s", "params", "complete", "exit")
    more = ("who", "host", "last_sign", "step")
    last = {name: told.figure(name, "last") for name in told.metrics}
    return {**{name: getattr(told, name) for name in (*names, *more)}, "attempts": told.attempt, "metrics": last}


def row(told: Brief) -> tuple[str, ...]:
    params = " ".join(f"{name}={short(number(value))}" for name, value in told.params.items())
    began = age(told.started or told.queued)
    return (told.run, told.name or "-", state_of(told), began, duration(told.duration_s), params, metrics(told))


def state_of(told: Brief) -> str:
    return told.state if told.complete or told.ended is None else f"{told.state} (incomplete)"


def metrics(told: Brief) -> str:
    return " ".join(f"{name}={number(told.figure(name, 'last'))}" for name in list(told.metrics)[:SHOWN])


def short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
