"""`launcher vault verify` and `gc`: look after what a vault keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.listing import age, print_table, size, store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.errors import FetchError, IntegrityError, LauncherError, LockError, Problem, UsageError
from launcher.lock import Artifact, Lock, digest, load

if TYPE_CHECKING:
    from launcher.indexes.source import Source
    from launcher.progress import Progress
    from launcher.store.objects import Entry, Store
    from launcher.vault.healing import Bring, Healed
    from launcher.vault.verifying import Damage, Verified

SHOWN = 20
HEAL = "`--heal` puts the right bytes back, from this machine's cache, the indexes, or a vault that --from names"


@click.command("verify")
@click.argument("name", metavar="LOCK", required=False)
@store_option
@click.option("--sample", metavar="SIZE", default="1G", show_default=True, help="Read so many bytes back, at random.")
@click.option("--all", "every", is_flag=True, help="Read everything back.")
@click.option("--heal", is_flag=True, help="Put the right bytes back where some are missing or damaged.")
@click.option("--from", "others", metavar="STORE", multiple=True, help="With --heal: another vault to take them from.")
@json_option
def verify(
    name: str | None,
    store: str | None,
    sample: str,
    every: bool,
    heal: bool,
    others: tuple[str, ...],
    as_json: bool,
) -> None:
    """Read a vault back: is everything there, and is it what its sha256 says? LOCK is a file, or a digest in the vault.

    All sizes are compared; of a sample, or with --all of everything, the bytes are. Ends with 76 when something is
    missing or damaged, and was not healed.
    """
    from launcher import access
    from launcher import vault as vaults

    if others and not heal:
        raise UsageError("--from goes with --heal", hint="--store names the vault that is verified")
    progress, opened = choose_progress(), access.open_to_read(store)
    locks = None if name is None else one_lock(name, opened)
    done = vaults.verify(opened, locks, sample=None if every else sample_bytes(sample), progress=progress)
    healed = mended(opened, done.damaged, locks, others, progress) if heal and done.damaged else None
    tell(opened, done, healed, as_json)
    left = healed.left if healed else [Problem(message=str(damage), hint=HEAL) for damage in done.damaged]
    if left:
        raise IntegrityError.of(left)


def sample_bytes(text: str) -> int:
    from launcher.spec.units import MisreadError, size_bytes

    try:
        return size_bytes(text)
    except MisreadError as e:
        raise UsageError(f"--sample {text}: {e}", hint=e.hint) from e


def one_lock(name: str, opened: Store) -> Mapping[str, Lock]:
    """Return the lock that was named: a file, a folder with one, or the beginning of a digest. Raises UsageError."""
    from launcher.cli.pipeline import given_lock
    from launcher.vault.locks import kept

    if Path(name).exists() or name.endswith((".lock", ".yaml", ".yml")):
        lock = load(given_lock(Path(name)))
        return {digest(lock): lock}
    fitting = [one for one in kept(opened) if one.digest.startswith(name)]
    if len(fitting) != 1:
        raise UsageError(
            f"{len(fitting) or 'no'} locks in {opened.url} begin with `{name}`", hint="`launcher vault list`"
        )
    [one] = fitting
    if one.lock is None:
        raise LockError(f"{opened.url}: the lock {one.digest} {one.trouble}", hint=HEAL)
    return {one.digest: one.lock}


def mended(
    opened: Store,
    damaged: Sequence[Damage],
    locks: Mapping[str, Lock] | None,
    others: Sequence[str],
    progress: Progress,
) -> Healed:
    from launcher import access
    from launcher.vault import heal
    from launcher.vault.locks import kept, sound

    writable = access.open(opened.url)
    vaults = [access.open_to_read(other) for other in others]
    known = sound(kept(opened)) if locks is None else locks
    return heal(writable, damaged, bringer(opened, list(known.values()), vaults, progress), vaults)


def bringer(opened: Store, locks: Sequence[Lock], vaults: Sequence[Store], progress: Progress) -> Bring:
    """Return what finds right bytes: in this machine's cache, other vaults, then indexes and registries."""
    from launcher.fetch import base_sources, default_sources
    from launcher.vault import VaultSource

    cache = Cache()
    registries = [source for lock in locks for source in base_sources(lock)]
    sources: list[Source] = [*(VaultSource(vault) for vault in vaults), *default_sources(), *registries]

    def bring(artifact: Artifact) -> tuple[Path, str]:
        if path := cache.find("artifacts", artifact.sha256):
            return path, "this machine's cache"
        try:
            return fetched(artifact, cache, sources)
        except FetchError:
            if made := remade(artifact, locks, opened, cache, sources, progress):
                return made, "the image, built again"
            raise

    return bring


def fetched(artifact: Artifact, cache: Cache, sources: Iterable[Source]) -> tuple[Path, str]:
    """Fetch an artifact, and tell from which source it came. Raises FetchError with what each one said."""
    from launcher.fetch import fetch
    from launcher.fetch.download import concerns

    said = []
    for source in (source for source in sources if concerns(source, artifact)):
        try:
            return fetch([artifact], cache, [source])[artifact.sha256], source.name
        except (FetchError, IntegrityError) as e:
            said += [line.strip() for problem in e.problems for line in problem.message.splitlines()[1:]]
    raise FetchError.of([Problem(message=line) for line in said or ["no place here holds files of this kind"]])


def remade(
    artifact: Artifact,
    locks: Iterable[Lock],
    opened: Store,
    cache: Cache,
    sources: Sequence[Source],
    progress: Progress,
) -> Path | None:
    """Make a list of files again, by building the image that it is about."""
    from launcher.cli.pipeline import built
    from launcher.vault import VaultSource, listings

    for lock in locks:
        if artifact.sha256 in {listing.sha256 for listing in listings(lock)}:
            try:
                built(lock, cache, progress, sources=[VaultSource(opened), *sources])
            except LauncherError:
                continue
            return cache.find("artifacts", artifact.sha256)
    return None


def tell(opened: Store, done: Verified, healed: Healed | None, as_json: bool) -> None:
    mended = healed.mended if healed else ()
    if as_json:
        counts = {"files": done.files, "bytes": done.size, "read": done.read, "read_bytes": done.read_size}
        damaged = [{"key": damage.key, "what": str(damage.wanted), "why": damage.why} for damage in done.damaged]
        places = [{"key": damage.key, "from": where} for damage, where in mended]
        print_json({"store": opened.url, **counts, "damaged": damaged, "healed": places})
        return
    for damage, where in mended:
        print_text(f"{damage}: healed from {where}")
    looked = f"{done.files} files, {size(done.size)}: all sizes compared"
    print_text(f"{looked}, {done.read} files ({size(done.read_size)}) read back; {verdict(done, len(mended))}")


def verdict(done: Verified, mended: int) -> str:
    if not done.damaged:
        return "everything is as it should be"
    return f"{len(done.damaged)} missing or damaged, {mended} of them healed"


@click.command("gc")
@store_option
@click.option("--older-than", default="1d", show_default=True, help="Only what is older, by the store's own clock.")
@click.option("--inputs", is_flag=True, help="Also inputs that were put there, and no lock and no run refers to.")
@click.option("--delete", is_flag=True, help="Delete it; otherwise it is only told.")
@json_option
def gc(store: str | None, older_than: str, inputs: bool, delete: bool, as_json: bool) -> None:
    """Find artifacts that no lock, no run and no input refers to, and with --delete, delete them."""
    from launcher import access
    from launcher import vault as vaults

    progress, least = choose_progress(), least_age(older_than)
    opened = access.open_to_read(store)  # which makes none at a misspelt place
    if delete:
        found: Sequence[Entry] = vaults.collect(opened, least, progress, inputs=inputs)
        young: Sequence[Entry] = ()
    else:
        seen = vaults.look(opened, least, inputs=inputs)
        found, young = seen.garbage, seen.young
    if as_json:
        sums = {"files": len(found), "bytes": total(found)}
        print_json({"store": opened.url, "deleted": delete, **sums, **listed(found)})
        return
    show(found)
    did = "deleted" if delete else "would delete"
    print_text(f"{did} {len(found)} files, {size(total(found))}, that no lock, run or input refers to")
    if young:
        print_text(f"{len(young)} more ({size(total(young))}) are younger than {older_than}: they may be on their way")
    if found and not delete:
        print_text("`launcher vault gc --delete` deletes them")


def least_age(text: str) -> timedelta:
    """Read `--older-than`; `0` is everything. Raises UsageError."""
    from launcher.spec.units import MisreadError, time_seconds

    if re.fullmatch("0+[smhd]?", text):
        return timedelta(0)
    try:
        return timedelta(seconds=time_seconds(text))
    except MisreadError as e:
        raise UsageError(f"--older-than {text}: {e}", hint="write a time such as 1d or 12h") from e


def show(found: Sequence[Entry]) -> None:
    if rows := [(entry.key, size(entry.size), age(stamp(entry))) for entry in found[:SHOWN]]:
        print_table(("KEY", "SIZE", "WRITTEN"), rows)
    if len(found) > SHOWN:
        print_text(f"and {len(found) - SHOWN} more")


def listed(found: Sequence[Entry]) -> dict[str, object]:
    return {"found": [{"key": entry.key, "size": entry.size, "modified": stamp(entry)} for entry in found]}


def total(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)


def stamp(entry: Entry) -> str:
    return entry.modified.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
