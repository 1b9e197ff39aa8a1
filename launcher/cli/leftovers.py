"""`launcher store gc`: what runs left behind in a store that nothing counts on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from launcher.cli.listing import age, print_table, size, store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.cli.vault_care import SHOWN, least_age
from launcher.errors import AccessError

if TYPE_CHECKING:
    from launcher.progress import Progress
    from launcher.records.leftovers import Leftover
    from launcher.store.objects import Store
    from launcher.store.uploads import Uploads

TOLD = ("key", "size", "kind", "why")


@click.command("gc")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@store_option
@click.option("--older-than", default="1d", show_default=True, help="Only what is older, by the store's own clock.")
@click.option("--delete", is_flag=True, help="Delete it; otherwise it is only told.")
@json_option
def gc(names: tuple[str, ...], store: str | None, older_than: str, delete: bool, as_json: bool) -> None:
    """Find what RUNs, or all runs, left behind that nothing counts on, and with --delete, delete it.

    Files of checkpoints and outputs that no manifest names, manifests of attempts that were superseded, files and
    uploads whose writer was killed. Runs that may be under way are left alone. Artifacts are `launcher vault gc`'s.
    """
    from launcher import access
    from launcher.records import find, sweeping

    progress, least = choose_progress(), least_age(older_than)
    opened = access.open_to_read(store)  # which makes none at a misspelt place
    only = [find(opened, name) for name in names] or None
    uploads = unfinished(store, opened, progress)
    found = sweeping.look(opened, least, only=only, uploads=uploads, progress=progress)
    if delete:
        found = sweeping.clear(opened, found, least, uploads)
    tell(opened, found, delete, as_json)


def unfinished(store: str | None, opened: Store, progress: Progress) -> Uploads | None:
    """Return how to find unfinished uploads; None where there are none, or they can't be seen, which is told."""
    from launcher import access
    from launcher.store.uploads import Uploads

    if not opened.url.startswith("s3://"):
        return None
    reached = access.of(store)
    try:
        uploads = Uploads(reached, access.credentials(reached))
        next(uploads.listed(), None)
    except AccessError as e:
        progress.note(f"{e.problems[0].message}; {e.problems[0].hint}")
        return None
    return uploads


def tell(opened: Store, found: Sequence[Leftover], deleted: bool, as_json: bool) -> None:
    whole = sum(one.size or 0 for one in found)
    if as_json:
        each = [{name: getattr(one, name) for name in TOLD} | {"modified": stamp(one)} for one in found]
        print_json({"store": opened.url, "deleted": deleted, "count": len(found), "bytes": whole, "found": each})
        return
    rows = [(one.key, size(one.size) if one.size is not None else "-", age(stamp(one)), one.why) for one in found]
    if rows:
        print_table(("KEY", "SIZE", "WRITTEN", "WHAT"), rows[:SHOWN])
    if len(rows) > SHOWN:
        print_text(f"and {len(rows) - SHOWN} more")
    print_text(f"{'deleted' if deleted else 'would delete'} {len(found)} leftovers of runs, {size(whole)}")
    if found and not deleted:
        print_text("`launcher store gc --delete` deletes them")


def stamp(one: Leftover) -> str:
    return one.modified.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
