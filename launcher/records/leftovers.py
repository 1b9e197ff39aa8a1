"""What of a run in the store nothing counts on, each object with the reason, so that it can be named and deleted.

A killed writer leaves blobs without a manifest, outputs without one, and manifests of an attempt that another had
taken over from. None of them is ever read; they only cost money.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from launcher.errors import ObjectMissingError, UsageError
from launcher.records.model import Record
from launcher.records.reading import load
from launcher.runner import claims
from launcher.runner.fold import seconds
from launcher.store import keys
from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something that nothing counts on: an object, a file of a folder store, or an upload of an S3 store (its id).

    `size` is in bytes, None where the store doesn't tell; `why` says what it is.
    """

    key: str
    size: int | None
    modified: datetime
    why: str
    kind: Literal["object", "file", "upload"] = "object"
    id: str | None = None


def named(store: Store, run: str) -> tuple[Leftover, ...]:
    """Name everything in a run's folder of the store that no manifest that counts, and no record, reaches.

    Of a run that is under way this names what is on its way, too: `removable` tells what may be deleted.

    Raises StoreError. Where a manifest that counts can't be read, nothing is known of what it names, so all is kept.
    """
    entries = store.list(keys.run(run))
    if not any(reason(run, entry.key) for entry in entries):
        return ()
    reached = reached_keys(store, run, [entry.key for entry in entries])
    return tuple(
        Leftover(key=entry.key, size=entry.size, modified=entry.modified, why=why)
        for entry in entries
        if entry.key not in reached and (why := reason(run, entry.key))
    )


def reached_keys(store: Store, run: str, present: Sequence[str]) -> set[str]:
    """Return the keys of manifests that count, and of all that they name."""
    counting = set(claims.counting(store, run)) | (recorded(store, run) if keys.record(run) in present else set())
    outputs = {key for key in present if key.startswith(keys.outputs(run)) and key.endswith("/manifest.json")}
    outputs = {key for key in outputs if key == keys.output_manifest(run, attempt_of(key))}
    reached = counting | outputs
    for key, manifest in manifests(store, sorted(reached)):
        if manifest is None:  # damaged: who knows what it named
            return reached | {key for key in present if key.startswith((keys.blobs(run), keys.outputs(run)))}
        if key in outputs:
            reached |= {keys.output(run, attempt_of(key), file["path"]) for file in manifest["files"]}
        else:
            reached |= {keys.blob_of(run, file) for file in manifest["files"]}
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


def manifests(store: Store, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, list[dict[str, str]]] | None]]:
    """Yield the manifests under some keys; None for one that can't be read."""
    for key, data in store.get_many(wanted):
        if data is None:
            continue  # deleted meanwhile, by `keep`
        try:
            manifest = json.loads(data)
            yield key, {"files": [dict(file) for file in manifest["files"]]}
        except (KeyError, TypeError, ValueError):
            yield key, None


def reason(run: str, key: str) -> str | None:
    """Say what an object is that nothing reaches; None when it is reached by its name alone: events, logs, claims."""
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
    """Delete what may be deleted of a run; return it. Raises StoreError.

    A later attempt is not harmed, whenever it begins: it relies on nothing that no manifest names
    (`launcher.runner.contents`). Manifests go first: what is deleted half must not look whole.
    """
    found = removable(store, run, older_than, store.now())
    manifests_of_nobody = [one.key for one in found if one.key.startswith(keys.checkpoints(run))]
    store.delete_many(manifests_of_nobody)
    store.delete_many([one.key for one in found if one.key not in set(manifests_of_nobody)])
    return found
