"""`launcher vault`: keep what a lock needs, so that no package index is needed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.listing import age, print_table, size, store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.cli.vault_care import gc, verify
from launcher.lock import Artifact, Lock

if TYPE_CHECKING:
    from datetime import datetime

    from launcher.progress import Progress
    from launcher.store.objects import Store
    from launcher.vault.summary import LockLine

TO = "A folder or a URL; the machine's default store otherwise."
OF_RUNS = "Where the runs are that are named (default: $LAUNCHER_STORE)."


@click.group("vault")
def vault() -> None:
    """Keep the artifacts of a lock in a store."""


vault.add_command(verify)
vault.add_command(gc)


@vault.command("add")
@click.argument("names", metavar="LOCK|SPEC|RUN...", nargs=-1, required=True)
@click.option("--to", "place", metavar="STORE", help=TO)
@click.option("--store", "runs", metavar="URL", help=OF_RUNS)
@json_option
def add(names: tuple[str, ...], place: str | None, runs: str | None, as_json: bool) -> None:
    """Put every artifact of LOCKs into a store; of a RUN, its code too.

    `launcher rebuild LOCK --from STORE --offline` then needs no package index.
    """
    from launcher import access
    from launcher.vault import put
    from launcher.vault.adding import references as references_of

    cache, progress = Cache(), choose_progress()
    kept = access.open(place)
    files: dict[str, Path] = {}
    references: dict[str, bytes] = {}
    for name in names:
        lock, own = named(name, kept, runs, cache, progress)
        files |= own | artifacts(lock, cache)
        references |= references_of(lock)
    done = put(files, references, kept, progress)
    if as_json:
        counts = {"copied": done.copied, "present": done.present, "bytes": done.size}
        print_json({"store": kept.url, **counts, "present_bytes": done.present_size, "locks": len(references) // 2})
        return
    sent = f"{done.copied} files copied to {kept.url} ({done.size / 1e6:.1f} MB)"
    print_text(f"{sent}, {done.present} were there")


def named(name: str, kept: Store, runs: str | None, cache: Cache, progress: Progress) -> tuple[Lock, dict[str, Path]]:
    """Return the lock that a word names, and files that belong to it and aren't of its image.

    A lock, a spec, the folder of one, or the beginning of a run's id. The lock's image is built: that makes the lists
    of files of its layers, and shows that the lock is whole. Raises LauncherError.
    """
    from launcher.cli.pipeline import SPEC, built, expected, lock_path, usual_sources
    from launcher.lock import load
    from launcher.vault import VaultSource

    path = Path(name)
    if not path.exists() and path.suffix not in (".lock", ".yaml", ".yml"):
        return of_run(name, runs, cache, progress)
    path = path / SPEC if path.is_dir() else path
    lock = load(path if path.suffix == ".lock" else lock_path(path))
    sources = [*usual_sources(None, lock), VaultSource(kept)]
    expected(lock, built(lock, cache, progress, sources=sources))
    return lock, {}


def of_run(name: str, runs: str | None, cache: Cache, progress: Progress) -> tuple[Lock, dict[str, Path]]:
    """Return the lock of a recorded run, and its code, and the patch of that."""
    from launcher import access
    from launcher.cli.pipeline import built, expected, usual_sources
    from launcher.cli.rerun import recorded
    from launcher.fetch import fetch
    from launcher.lock import loads
    from launcher.store import keys
    from launcher.vault import VaultSource

    opened = access.open_to_read(runs)
    job, facts = recorded(opened, name)
    lock = loads(opened.get(keys.lock(job.lock)).decode(), f"the lock of {job.run}")
    vault = VaultSource(opened)
    expected(lock, built(lock, cache, progress, sources=[vault, *usual_sources(None, lock)]))
    own = {"the run's code": job.code, "the run's patch": (facts or {}).get("patch")}
    found = [
        Artifact(name=job.run, version="", filename=what, size=0, sha256=str(sha256))
        for what, sha256 in own.items()
        if sha256
    ]
    return lock, fetch(found, cache, [vault], progress)


def artifacts(lock: Lock, cache: Cache) -> dict[str, Path]:
    """Return where a lock's files lie in the cache, its sdists included where they are there."""
    from launcher.vault.adding import in_cache, optional
    from launcher.vault.contents import files, sources

    return in_cache(files(lock), cache) | optional(sources(lock), cache)


@vault.command("list")
@store_option
@click.option("--artifacts", "every", is_flag=True, help="List the files instead of the locks.")
@json_option
def list_(store: str | None, every: bool, as_json: bool) -> None:
    """List what a store's vault holds: each lock, its size, and how much of that no other lock needs."""
    from launcher import access

    opened = access.open_to_read(store)
    (list_artifacts if every else list_locks)(opened, as_json)


def list_locks(opened: Store, as_json: bool) -> None:
    from launcher.vault import holdings

    held = holdings(opened)
    if as_json:
        locks = [{**vars(line), "modified": stamp(line.modified)} for line in held.locks]
        print_json({"store": opened.url, **vars(held), "locks": locks})
        return
    if held.locks:
        print_table(("LOCK", "ADDED", "SIZE", "ONLY ITS OWN", "LACKS", "WHAT"), [row(line) for line in held.locks])
    print_text(f"{len(held.locks)} locks, {held.files} files, {size(held.size)}")
    if held.other:
        print_text(f"{held.other} of the files ({size(held.other_size)}) no lock names: code, patches, inputs")


def row(line: LockLine) -> tuple[str, ...]:
    sizes = size(line.size), size(line.own)
    return (line.digest[:12], age(stamp(line.modified)), *sizes, lacking(line), line.about)


def list_artifacts(opened: Store, as_json: bool) -> None:
    from launcher.vault import artifacts

    found = artifacts(opened)
    if as_json:
        print_json([{**vars(one.artifact), "size": held, "locks": one.locks} for one, held in found])
        return
    rows: Sequence[tuple[str, ...]] = [
        (one.artifact.sha256[:12], size(held), str(len(one.locks)), one.artifact.version or "-", one.artifact.filename)
        for one, held in found
    ]
    if rows:
        print_table(("SHA256", "SIZE", "LOCKS", "VERSION", "FILE"), rows)
    print_text(f"{len(rows)} files, {size(sum(held for _, held in found))}")


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lacking(line: LockLine) -> str:
    """Say what of a lock isn't there: of one that only a run used, nobody promised that it is."""
    return "-" if not line.missing else f"{line.missing} files{'' if line.kept else ', not added'}"
