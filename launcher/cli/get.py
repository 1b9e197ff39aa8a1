"""`launcher get`: fetch what a run left, its outputs, a checkpoint or its logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli.listing import size, store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.records.choosing import Piece
    from launcher.records.fetching import Fetched
    from launcher.store.objects import Store


@click.command()
@click.argument("run", required=False)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where to (default: ./RUN).")
@click.option(
    "--checkpoint",
    is_flag=False,
    flag_value="newest",
    metavar="[NAME|newest|best]",
    help="A checkpoint, to DIR/checkpoints.",
)
@click.option("--outputs", "whole", is_flag=True, help="The outputs, to DIR: what is fetched when nothing is said.")
@click.option("--logs", is_flag=True, help="The logs, to DIR/logs.txt.")
@click.option("--force", is_flag=True, help="Write over files that are there and differ.")
@store_option
@json_option
def get(
    run: str | None,
    patterns: tuple[str, ...],
    output: Path | None,
    checkpoint: str | None,
    whole: bool,
    logs: bool,
    force: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """Fetch what RUN left (the newest without one): its outputs, or those that fit a PATTERN.

    Every file is checked by its sha256; what is there already with the right bytes is not fetched again, so a get that
    was interrupted goes on when it is repeated.
    """
    from launcher import access
    from launcher.cli.progress import choose_progress
    from launcher.cli.runs import chosen
    from launcher.records.fetching import fetch

    if patterns and (checkpoint or logs) and not whole:
        raise UsageError("patterns choose among outputs", hint="say `--outputs` too, or leave them out")
    opened = access.open_to_read(store)
    found = chosen(opened, store, run)
    folder = output or Path(found)
    wanted = outputs_of(opened, found, patterns) if whole or not (checkpoint or logs) else []
    if checkpoint:
        wanted += checkpoint_of(opened, found, checkpoint)
    fetched = fetch(opened, wanted, folder, force=force, progress=choose_progress())
    if logs:
        write_logs(opened, found, folder / "logs.txt")
    tell(folder, wanted, fetched, logs, as_json)


def tell(folder: Path, wanted: list[Piece], fetched: Fetched, logs: bool, as_json: bool) -> None:
    if as_json:
        files = [{"path": one.path, "size": one.size, "sha256": one.sha256 or None, "link": one.link} for one in wanted]
        print_json({"folder": folder.absolute(), "fetched": fetched.files, "kept": fetched.kept, "files": files})
        return
    kept = f", {fetched.kept} were there already" if fetched.kept else ""
    if wanted or not logs:
        click.echo(f"{fetched.files} file{'s' * (fetched.files != 1)}, {size(fetched.bytes)}{kept}", err=True)
    if logs:
        click.echo("the logs are in logs.txt", err=True)
    print_text(str(folder))


def outputs_of(store: Store, run: str, patterns: tuple[str, ...]) -> list[Piece]:
    """Return the outputs to fetch. Raises UsageError when there are none."""
    from launcher import records
    from launcher.records.choosing import outputs

    record = records.load(store, run)
    if not record.outputs:
        hint = "outputs are stored when a run has ended" if record.ended is None else "`launcher show` tells what is"
        raise UsageError(f"{run} ({record.state}) has no outputs in the store", hint=hint)
    return outputs(store, run, str(record.outputs["key"]), patterns)


def checkpoint_of(store: Store, run: str, wanted: str) -> list[Piece]:
    from dataclasses import replace

    from launcher.records.choosing import choose, pieces

    found = pieces(run, choose(store, run, wanted))
    return [replace(piece, path=f"checkpoints/{piece.path}") for piece in found]


def write_logs(store: Store, run: str, path: Path) -> None:
    """Write what `launcher logs` prints, whole or not at all."""
    from launcher.cache import written_whole
    from launcher.cli.logs import text_lines
    from launcher.records import logs as reading

    with written_whole(path) as part, part.open("wb") as stream:
        stream.writelines(text_lines(False)(reading.joined(reading.read(store, run))))
