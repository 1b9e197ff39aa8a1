"""`launcher vault`: keep what a lock needs, so that no package index is needed again."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.cache import Cache
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.lock import load


@click.group("vault")
def vault() -> None:
    """Keep the artifacts of a lock in a store."""


@vault.command("add")
@click.argument("lock", type=click.Path(path_type=Path))
@click.option("--to", "store", metavar="STORE", help="A folder or file:// URL; the machine's default store otherwise.")
@json_option
def add(lock: Path, store: str | None, as_json: bool) -> None:
    """Copy every artifact of LOCK into a store.

    `launcher rebuild LOCK --from STORE --offline` then needs no network.
    """
    from launcher import store as stores
    from launcher import vault as vaults
    from launcher.cli.pipeline import built, expected, given_lock

    pinned, cache, progress = load(given_lock(lock)), Cache(), choose_progress()
    kept = stores.open(store)
    expected(pinned, built(pinned, cache, progress))
    done = vaults.add(pinned, cache, kept, progress)
    if as_json:
        print_json({"store": kept.url, "copied": done.copied, "present": done.present, "bytes": done.size})
        return
    print_text(f"{done.copied} files copied to {kept.url} ({done.size / 1e6:.1f} MB), {done.present} were there")
