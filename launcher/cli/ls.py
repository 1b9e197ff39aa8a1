"""`launcher ls`: list runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from launcher.cli.listing import age, duration, number, print_table, store_option
from launcher.cli.output import json_option, print_json

if TYPE_CHECKING:
    from launcher.records import Record

HEADS = ("RUN", "NAME", "STATE", "BEGAN", "TOOK", "PARAMETERS", "METRICS")
SHOWN = 3  # metrics in a row
LONGEST = 40  # characters of a parameter: a text of a page would push all else out of sight


@click.command()
@store_option
@click.option("--name", help="Only runs of the experiment with this name.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, the newest.")
@click.option("--all", "every", is_flag=True, help="All of them.")
@json_option
def ls(store: str | None, name: str | None, limit: int, every: bool, as_json: bool) -> None:
    """List runs, newest first."""
    from launcher import records
    from launcher import store as stores

    whole = records.ls(stores.open_to_read(store), name=name)
    found = whole if every else whole[:limit]
    if as_json:
        print_json([brief(record) for record in found])
        return
    print_table(HEADS, [row(record) for record in found], states=2)
    if len(found) < len(whole):
        click.echo(f"{len(whole) - len(found)} older ones are not shown: --all", err=True)


def brief(record: Record) -> dict[str, object]:
    """Return what a list tells of a run."""
    keys = ("run", "name", "state", "reason", "queued", "started", "ended", "duration_s", "params", "complete")
    metrics = record.metrics.get("names", {})
    last = {name: summary["last"] for name, summary in metrics.items()}
    return {**{key: getattr(record, key) for key in keys}, "exit": record.exit, "metrics": last}


def row(record: Record) -> tuple[str, ...]:
    metrics = list(record.metrics.get("names", {}).items())
    told = [f"{name}={number(summary['last'])}" for name, summary in metrics[:SHOWN]]
    params = " ".join(f"{name}={short(number(value))}" for name, value in record.params.items())
    state = record.state if record.complete or record.ended is None else f"{record.state} (incomplete)"
    began = age(record.started or record.queued)
    return (record.run, record.name or "-", state, began, duration(record.duration_s), params, " ".join(told))


def short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
