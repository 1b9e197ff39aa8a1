"""`launcher logs`: print or follow the output of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from launcher.cli.listing import store_option
from launcher.cli.output import json_option

if TYPE_CHECKING:
    from launcher.records.logs import Line


@click.command()
@click.argument("run", required=False, metavar="[RUN|SWEEP]")
@store_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the run, or the sweep, ends.")
@click.option("--point", type=click.IntRange(0), help="Of a sweep, only this point (from 0).")
@click.option("--attempt", type=click.IntRange(1), help="Only this attempt.")
@click.option("--stdout", "only_out", is_flag=True, help="Only what went to stdout.")
@click.option("--stderr", "only_err", is_flag=True, help="Only what went to stderr.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
@json_option
def logs(
    run: str | None,
    store: str | None,
    follow: bool,
    point: int | None,
    attempt: int | None,
    only_out: bool,
    only_err: bool,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Print the logs of RUN (the newest without one), stdout and stderr in the order in which they came.

    Those of a SWEEP come together, each line after the number of its point.
    """
    from launcher import access, records
    from launcher.cli.runs import chosen
    from launcher.cli.sweep_logs import of_point, sweep_lines
    from launcher.cli.sweeps import named
    from launcher.records import logs as reading
    from launcher.records.logs import finished

    opened = access.open_to_read(store)
    word = named(opened, store, run) if run else None
    if word and word.sweep and word.is_sweep and point is None:
        wanted = {name for name, only in (("stdout", only_out), ("stderr", only_err)) if only}
        for data in sweep_lines(opened, store, word.sweep, follow, attempt, wanted, timestamps, as_json):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    found = of_point(opened, word, point) or chosen(opened, store, run)
    if follow:
        from launcher.cli.box_wait import relayed_beside

        relayed_beside(opened, store, found)
        lines = reading.follow(opened, found, lambda: finished(records.load(opened, found)), attempt=attempt)
    else:
        lines = reading.read(opened, found, attempt=attempt)
    wanted = {name for name, only in (("stdout", only_out), ("stderr", only_err)) if only} or {"stdout", "stderr"}
    show = json_lines if as_json else text_lines(timestamps)
    for data in show(line for line in reading.joined(lines) if line.stream in wanted):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def text_lines(timestamps: bool) -> Callable[[Iterator[Line]], Iterator[bytes]]:
    """Return what prints lines as the command's own bytes; of a progress bar, what it said in the end."""
    from launcher.records.logs import as_shown

    def text(lines: Iterator[Line]) -> Iterator[bytes]:
        for line in lines:
            head = f"{line.time} " if timestamps else ""
            yield head.encode() + as_shown(line.data) + b"\n"

    return text


def json_lines(lines: Iterator[Line]) -> Iterator[bytes]:
    """Print one JSON object for each line; bytes that are no UTF-8 become U+FFFD."""
    for line in lines:
        told = {"attempt": line.attempt, "time": line.time, "stream": line.stream}
        yield json.dumps({**told, "text": line.data.decode(errors="replace")}).encode() + b"\n"
