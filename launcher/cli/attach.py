"""`launcher attach`: back to a run on a box."""

from __future__ import annotations

import click

from launcher.cli.listing import store_option
from launcher.cli.output import json_option


@click.command()
@click.argument("run")
@click.option("--on", "target", metavar="TARGET", help="The box, where no store that is at hand knows the run.")
@store_option
@json_option
def attach(run: str, target: str | None, store: str | None, as_json: bool) -> int:
    """Follow RUN on its box as the `launcher run` that began it did: its output from the start, then as it comes.

    The exit code is the command's own. Ctrl-C lets go of it again; it is 75 when the way to the box is lost.
    """
    from launcher.cli.attaching import attached
    from launcher.cli.boxes import find

    found = find(store, run, target)
    return attached(found.profile, found.run, found.opened, as_json=as_json)
