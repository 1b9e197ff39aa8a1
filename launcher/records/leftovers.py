"""What of a run in the store nothing counts on, each object with the reason, so that it can be named and deleted.

A killed writer leaves blobs without a manifest, outputs without one, and manifests of an attempt that another had
taken over from. None of them is ever read; they only cost money.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from launcher.errors import ObjectMissingError, StoreError, UsageError
from launcher.records.model import Record
from launcher.records.reading import load
from launcher.runner import claims
from launcher.runner.fold import seconds
from launcher.store import keys
from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """An object that nothing counts on. `size` is in bytes; `why` says what it is."""

    key: str
    size: int
    modified: datetime
    why: str


def named(store: Store, run: str) -> tuple[Leftover, ...]:
    """Name everything in a run's folder of the store that no manifest that counts, and no record, reaches.

    Of a run that is under way this names what is on its way, too: `removable` tells what may be deleted.

    Raises StoreError, also when a manifest that counts can't be read: then nothing is known of the blobs.
    """
    entries = store.list(keys.run(run))
    reached = reached_keys(store, run, [entry.key for entry in entries])
    return tuple(
        Leftover(key=entry.key, size=entry.size, modified=entry.modified, why=why)
        for entry in entries
        if entry.key not in reached and (why := reason(run, entry.key))
    )


def reached_keys(store: Store, run: str, present: Sequence[str]) -> set[str]:
    """Return the keys of manifests that count, and of all that they name."""
    counting = set(claims.counting(store, run)) | recorded(store, run)
    outputs = {key for key in present if key.startswith(keys.outputs(run)) and key.endswith("/manifest.json")}
    outputs = {key for key in outputs if key == keys.output_manifest(run, attempt_of(key))}
    reached = counting | outputs
    for key, manifest in manifests(store, sorted(reached & set(present))):
        of_outputs = key in outputs
        for file in manifest["files"]:
            if of_outputs:
                reached.add(keys.output(run, attempt_of(key), file["path"]))
            elif "sha256" in file:
                reached.add(keys.blob(run, file["sha256"]))
    return reached


def attempt_of(key: str) -> int:
    """Return the attempt of a key below `outputs/`; 0 when it has none."""
    part = key.split("/")[3]
    return int(part) if part.isdigit() else 0


def recorded(store: Store, run: str) -> set[str]:
    """Return the keys of the manifests that the run's record names."""
    try:
        told = json.loads(store.get(keys.record(run)))
    except ObjectMissingError:
        return set()
    found = [*(told.get("checkpoints") or ()), told.get("outputs") or {}]
    return {str(shown["key"]) for shown in found if "key" in shown}


def manifests(store: Store, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, list[dict[str, str]]]]]:
    """Yield the manifests under some keys. Raises StoreError for one that can't be read."""
    for key, data in store.get_many(wanted):
        if data is None:
            continue  # deleted meanwhile, by `keep`
        try:
            yield key, json.loads(data)
        except ValueError as e:
            hint = "nothing of this run is deleted; restore the manifest, or delete the run as a whole"
            raise StoreError(f"{store.url}: {key} can't be read: {e}", hint=hint) from e


def reason(run: str, key: str) -> str | None:
    """Say what an object is that nothing reaches; None when it is reached by its name alone: events, logs, claims."""
    if key == keys.collecting(run):
        return "the mark of somebody who deleted"
    if key.startswith(keys.blobs(run)):
        return "a checkpoint's file that no manifest names"
    if key.startswith(keys.checkpoints(run)):
        return "a checkpoint's manifest that does not count: another attempt had taken over"
    if key.startswith(keys.outputs(run)):
        return "an output that no manifest names"
    return None


def removable(store: Store, run: str, older_than: timedelta, now: datetime) -> tuple[Leftover, ...]:
    """Return what of a run may be deleted: leftovers that are old, of a run that nobody is working on.

    `now` is the store's clock. A run that has given no sign of life for `older_than` counts as dead.
    """
    old = tuple(found for found in named(store, run) if now - found.modified >= older_than)
    return old if old and resting(store, run, older_than, now) else ()


def resting(store: Store, run: str, older_than: timedelta, now: datetime) -> bool:
    """Tell whether no attempt of a run writes any more, as far as the store can tell."""
    try:
        record = load(store, run, now.timestamp())
    except UsageError:
        return True  # no job was ever written
    return is_resting(record, older_than, now)


def is_resting(record: Record, older_than: timedelta, now: datetime) -> bool:
    if not record.attempts:
        return True
    last = record.attempts[-1]
    sign = last.last_sign or last.queued
    return last.closed or sign is None or now.timestamp() - seconds(sign) >= older_than.total_seconds()


def remove(store: Store, run: str, older_than: timedelta) -> tuple[Leftover, ...]:
    """Delete what may be deleted of a run; return it.

    A mark is set before the run is looked at. An attempt whose `queued` event that look doesn't see begins later, and
    finds the mark, or all of it done: its runner trusts no listing of blobs that has the mark in it.
    """
    store.put(keys.collecting(run), b"{}")
    try:
        found = removable(store, run, older_than, store.now())
        store.delete_many(in_order(found, run))
    finally:
        store.delete(keys.collecting(run))
    return found


def in_order(found: Iterable[Leftover], run: str) -> list[str]:
    """Return the keys, manifests first: what is deleted half must not look whole."""
    return sorted(
        (one.key for one in found if one.key != keys.collecting(run)),
        key=lambda key: (not key.startswith(keys.checkpoints(run)), key),
    )
