"""`launcher data`: put a spec's inputs into a store, and look after those that this node keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.inputs.room import Entry
    from launcher.inputs.shelf import Shelf


@click.group("data")
def data() -> None:
    """Put inputs into a store, and look after those on this node."""


@data.command("add")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option("--store", "place", metavar="URL", help="The store (default: the spec's, then $LAUNCHER_STORE).")
@json_option
def add(spec: Path | None, place: str | None, as_json: bool) -> None:
    """Put the inputs of SPEC (experiment.yaml) into a store, by their digests.

    Other machines then find them there: `launcher rerun`, and `launcher run`, need no --data. What is in the store
    already isn't sent again, and an interrupted command goes on where it was.
    """
    from launcher import access
    from launcher import inputs as staging
    from launcher import spec as specs
    from launcher.cli.inputs import locked_pins, remember
    from launcher.cli.pipeline import given
    from launcher.inputs.room import amount
    from launcher.vault.marks import deleted_since, seen

    path, cache, progress = given(spec), Cache(), choose_progress()
    loaded = specs.load(path)
    pins = locked_pins(path, loaded, cache, progress)
    store = access.open(place or loaded.store)
    done, before = [], seen(store)
    for source in loaded.data:
        staged = staging.stage(pins[source.name], source, cache, progress=progress)
        done.append(staging.add(pins[source.name], staged, source, cache, store, progress))
        remember(cache, pins[source.name].sha256, source)
        if deleted_since(store, before, progress):  # perhaps what this relied on
            staging.add(pins[source.name], staged, source, cache, store, progress)
    if as_json:
        print_json({"store": store.url, "inputs": done})
        return
    for one in done:
        there = f", {one.present} were there" if one.present else ""
        print_text(f"{one.name}: {one.sent} files sent to {store.url} ({amount(one.bytes)}){there}")
    if not done:
        print_text(f"{path} names no inputs")


@data.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the inputs that this node keeps, the one that was used longest ago first."""
    from launcher.inputs import room
    from launcher.inputs.shelf import Shelf

    shelf = Shelf.of(Cache())
    found = room.entries(shelf)
    taken, limit, free = room.used(shelf), room.limit(shelf), room.free(shelf)
    if as_json:
        print_json({"folder": str(shelf.root), "used": taken, "limit": limit, "free": free, "inputs": found})
        return
    for entry in found:
        print_text(line(entry))
    print_text(f"{room.amount(taken)} of {room.amount(limit)} in {shelf.root}; {room.amount(free)} free on its disk")


@data.command("prune")
@click.argument("names", nargs=-1, metavar="[NAME|DIGEST]...")
@click.option("--all", "everything", is_flag=True, help="Remove all that nobody uses.")
@click.option("--to", "size", metavar="SIZE", help="Remove the longest unused until no more than SIZE is taken.")
@json_option
def prune(names: tuple[str, ...], everything: bool, size: str | None, as_json: bool) -> None:
    """Remove inputs from this node: some by name or digest, all, or down to a size. What a job uses stays."""
    from launcher.inputs import room
    from launcher.inputs.shelf import Shelf

    if sum((bool(names), everything, size is not None)) != 1:
        raise UsageError("say what is to go", hint="names or digests, --all, or --to SIZE")
    shelf = Shelf.of(Cache())
    before = room.entries(shelf)
    if size is not None:
        freed = room.trim(shelf, room.used(shelf) - room.parsed(size), choose_progress())
    else:
        chosen = before if everything else named(before, names)
        freed = sum(room.remove(shelf, entry.digest) or 0 for entry in chosen)
        freed += room.sweep(shelf, 0) if everything else 0
    report(before, shelf, freed, as_json)


def named(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Return the entries of these names or beginnings of digests. Raises UsageError for one that is none."""
    found = [[entry for entry in entries if entry.name == name or entry.digest.startswith(name)] for name in names]
    if lost := [name for name, some in zip(names, found, strict=True) if not some]:
        raise UsageError(f"this node keeps no input `{lost[0]}`", hint="`launcher data list` shows what it keeps")
    return list({entry.digest: entry for some in found for entry in some}.values())


def report(before: Sequence[Entry], shelf: Shelf, freed: int, as_json: bool) -> None:
    from launcher.inputs import room

    left = {entry.digest for entry in room.entries(shelf)}
    gone = [entry for entry in before if entry.digest not in left]
    held = [entry for entry in before if entry.digest in left and entry.held]
    if as_json:
        print_json({"removed": gone, "in_use": held, "freed": freed})
        return
    for entry in gone:
        print_text(f"removed {line(entry)}")
    for entry in held:
        print_text(f"in use  {line(entry)}")
    print_text(f"{room.amount(freed)} are free again")


def line(entry: Entry) -> str:
    from launcher.inputs.room import amount

    when = day(entry.used)
    what = entry.kind if entry.kind == "file" else f"tree of {entry.files} file{'s' * (entry.files != 1)}"
    use = ", in use" if entry.held else ""
    return f"{entry.name}  {entry.digest[:12]}  {what}, {amount(entry.size)}, last used {when}{use}"


def day(moment: float) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M")
