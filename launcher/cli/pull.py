"""`launcher pull`: what a box keeps of a run for a store that it doesn't reach, into that store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from launcher.cli.listing import store_option
from launcher.cli.output import json_option, print_json, print_text

if TYPE_CHECKING:
    from launcher.records import Record

NOT_OVER = 3


@click.command()
@click.argument("run")
@click.option("--on", "target", metavar="TARGET", help="The box, where no store that is at hand knows the run.")
@store_option
@json_option
def pull(run: str, target: str | None, store: str | None, as_json: bool) -> int:
    """Bring what a box has of RUN to the store: logs, metrics, checkpoints, outputs, and its record at last.

    What is there already is not sent again. Of a run that goes on it is what there is by now, and the exit code is 3.
    """
    from launcher import access, records
    from launcher.cli.boxes import find
    from launcher.cli.progress import choose_progress
    from launcher.ssh.pulling import pull as pull_run

    found = find(store, run, target)
    opened = found.opened or access.open(store or found.profile.store)
    pull_run(found.profile, found.run, opened, choose_progress())
    record = records.load(opened, found.run)
    if as_json:
        print_json(record)
    else:
        print_text(summary(record))
    return 0 if record.complete else NOT_OVER


def summary(record: Record) -> str:
    whole = "all of it is in the store" if record.complete else "what there is of it is in the store"
    if record.missing:
        whole += f"; `launcher show {record.run}` tells what is not"
    return f"{record.run}: {record.state}; {whole}"
