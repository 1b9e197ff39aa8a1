"""`launcher table`: runs side by side, the parameters in which they differ and what came of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from launcher.cli.listing import duration, number, print_table, store_option
from launcher.cli.ls import short, state_of
from launcher.cli.output import json_option, print_json
from launcher.cli.runs import filter_options, index_options, listed
from launcher.errors import Problem, UsageError

if TYPE_CHECKING:
    from launcher.records.brief import Brief

FACTS = ("run", "name", "state", "queued", "started", "ended", "duration_s", "seed")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its head for people, its path for programs, and how a run's value is found."""

    head: str
    path: tuple[str, ...]
    value: Callable[[Brief], Any]


@click.command()
@click.argument("sweep", required=False)
@store_option
@filter_options
@click.option("--param", "params", multiple=True, metavar="NAME", help="Only this parameter (may be repeated).")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric (may be repeated).")
@click.option("--best", type=click.Choice(["min", "max"]), help="A metric's best value and its step, best runs first.")
@click.option("--limit", type=click.IntRange(1), help="At most so many rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV (RFC 4180).")
@index_options
@json_option
def table(
    sweep: str | None,
    store: str | None,
    name: str | None,
    state: tuple[str, ...],
    since: float | None,
    params: tuple[str, ...],
    metrics: tuple[str, ...],
    best: Literal["min", "max"] | None,
    limit: int | None,
    as_csv: bool,
    offline: bool,
    refresh: bool,
    as_json: bool,
) -> None:
    """Compare runs: a row for each, columns for the parameters that differ and for metrics.

    Newest first, or with --best the best by the first metric. Of a SWEEP there is a row for each point, in their order,
    also for those that have not begun.
    """
    if sweep:
        found = of_sweep(sweep, store, name, state, since, offline, refresh)
    else:
        with listed(store, offline=offline, refresh=refresh) as runs:
            found = runs.select(name=name, states=state, since=since)
    check(found, params, metrics, best)
    if best:
        found = ranked(found, metrics[0], best)
    columns = [*param_columns(found, params), *metric_columns(found, metrics, best)]
    found = found[:limit]
    if as_json:
        print_json([nested(told, columns) for told in found])
    elif as_csv:
        print_csv(found, columns)
    else:
        print_people(found, [*seed_column(found), *columns])


def of_sweep(
    word: str,
    place: str | None,
    name: str | None,
    states: Sequence[str],
    since: float | None,
    offline: bool,
    refresh: bool,
) -> list[Brief]:
    """Return what a list tells of each point of a sweep. Raises UsageError."""
    from launcher import access
    from launcher.cli.sweeps import tell, viewed
    from launcher.records import sweeps

    if name is not None or since is not None:
        raise UsageError("--name and --since choose among all runs", hint="a sweep's table has all its points")
    opened = access.open_to_read(place)
    with viewed(opened, place, sweeps.find(opened, word), offline=offline, refresh=refresh) as view:
        tell(view.notes)
        return [point.brief for point in view.standing.points if not states or point.state in states]


def check(found: Sequence[Brief], params: Sequence[str], metrics: Sequence[str], best: str | None) -> None:
    """Refuse names that no run has, and --best without a metric. Raises UsageError with all of them."""
    if best and not metrics:
        raise UsageError(f"--best {best}: of which metric?", hint="say `--metric NAME`")
    problems = []
    for kind, wanted, known in (
        ("parameter", params, {name for told in found for name in told.params}),
        ("metric", metrics, {name for told in found for name in told.metrics}),
    ):
        has = f"they have {', '.join(sorted(known))}" if known else None
        problems += [
            Problem(message=f"none of these {len(found)} runs has a {kind} `{name}`", hint=has)
            for name in wanted
            if name not in known
        ]
    if problems and found:
        raise UsageError.of(problems)


def ranked(found: Sequence[Brief], metric: str, best: str) -> list[Brief]:
    """Return runs by their best value of a metric; those without one come last, newest first."""
    values = {told.run: told.figure(metric, best) for told in found}
    some = [told for told in found if isinstance(values[told.run], (int, float))]
    rest = [told for told in found if not isinstance(values[told.run], (int, float))]
    return sorted(some, key=lambda told: values[told.run], reverse=best == "max") + rest


def seed_column(found: Sequence[Brief]) -> list[Column]:
    """Return a column of the seeds where runs differ in them. For programs the seed is a fact of each run."""
    seeds = {told.seed for told in found}
    return [Column(head="SEED", path=("seed",), value=lambda told: told.seed)] if len(seeds) > 1 else []


def param_columns(found: Sequence[Brief], wanted: Sequence[str]) -> list[Column]:
    return [param(name) for name in wanted or differing(found)]


def param(name: str) -> Column:
    return Column(head=name, path=("params", name), value=lambda told: told.params.get(name))


def differing(found: Sequence[Brief]) -> list[str]:
    """Return the parameters in which runs differ, sorted; of one run all."""
    names = sorted({name for told in found for name in told.params})
    if len(found) < 2:
        return names
    return [name for name in names if len({repr(told.params.get(name)) for told in found}) > 1]


def metric_columns(found: Sequence[Brief], wanted: Sequence[str], best: str | None) -> list[Column]:
    """Return columns of the last values, or of the best ones and the step at which they were."""
    columns: list[Column] = []
    for name in wanted or sorted({name for told in found for name in told.metrics}):
        if best is None:
            columns.append(figure(name, ("metrics", name), name, "last"))
            continue
        columns.append(figure(f"{best} {name}", ("metrics", name, best), name, best))
        columns.append(figure("at step", ("metrics", name, f"{best}_step"), name, f"{best}_step"))
    return columns


def figure(head: str, path: tuple[str, ...], name: str, which: str) -> Column:
    return Column(head=head, path=path, value=lambda told: told.figure(name, which))


def nested(told: Brief, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a row as JSON: facts, then `params` and `metrics` by name."""
    row: dict[str, Any] = {**{name: getattr(told, name) for name in FACTS}, "params": {}, "metrics": {}}
    for column in columns:
        place = row
        for part in column.path[:-1]:
            place = place.setdefault(part, {})
        place[column.path[-1]] = column.value(told)
    return row


def print_csv(found: Sequence[Brief], columns: Sequence[Column]) -> None:
    """Print CSV: a missing value is empty, a list or mapping is JSON."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*FACTS, *(".".join(column.path) for column in columns)])
    for told in found:
        values = [*(getattr(told, name) for name in FACTS), *(column.value(told) for column in columns)]
        writer.writerow([plain(value) for value in values])
    sys.stdout.buffer.write(out.getvalue().encode("utf-8", "backslashreplace"))


def plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, (list, tuple, dict, bool)) else value


def print_people(found: Sequence[Brief], columns: Sequence[Column]) -> None:
    heads = ["RUN", "STATE", "TOOK", *(column.head for column in columns)]
    rows = [
        [told.run, state_of(told), duration(told.duration_s), *(text(column.value(told)) for column in columns)]
        for told in found
    ]
    print_table(heads, rows, states=1)


def text(value: object) -> str:
    return "-" if value is None else short(number(value))
