"""Reading records from a store: one by its id or the beginning of it, or all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from launcher.errors import ObjectMissingError, StoreError, UsageError
from launcher.records.model import Record, from_json
from launcher.runner import fold as folding
from launcher.runner import history
from launcher.runner.metrics import Summary
from launcher.store import keys
from launcher.store.objects import Store

READERS = 8  # runs read at once: a bucket answers slowly, but many at a time
NEAREST = 5


def fold(
    job: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    summaries: Mapping[int, Summary] | None = None,
    beats: Mapping[int, Mapping[str, Any]] | None = None,
    now: float | None = None,
) -> Record:
    """Fold a run's events into its record. Pure: without `now`, a silent run counts as running."""
    return from_json(folding.fold(job, events, summaries or {}, beats, now))


def load(store: Store, run: str, now: float | None = None) -> Record:
    """Read the record of a run, whatever state it is in. Raises UsageError when there is no such run, StoreError."""
    try:
        job = json.loads(store.get(keys.job(run)))
    except ObjectMissingError:
        return without_job(store, run)
    past = history.read(store, run)
    return fold(job, past.events, past.summaries, past.beats, time.time() if now is None else now)


def without_job(store: Store, run: str) -> Record:
    """Read the record of a run whose job is gone. Raises UsageError when nothing is there."""
    try:
        return from_json(json.loads(store.get(keys.record(run))))
    except ObjectMissingError:
        raise UsageError(f"there is no run `{run}` in {store.url}", hint="`launcher ls` lists the runs") from None


def quick(store: Store, run: str, now: float | None = None) -> Record:
    """Read a run for a list: from its record when it has ended, unless a later attempt has begun since."""
    try:
        record = from_json(json.loads(store.get(keys.record(run))))
    except ObjectMissingError:
        return load(store, run, now)
    begun = store.folders(keys.events(run))
    last = record.attempts[-1] if record.attempts else None
    later = bool(begun) and int(begun[-1]) > (last.attempt if last else 0)
    if later or (last and last.by_sigkill):  # why, its node may know, and says so after the record was written
        return load(store, run, now)
    return record


def runs(store: Store) -> tuple[str, ...]:
    """Return the ids of all runs."""
    return tuple(keys.unquoted(part) for part in store.folders(keys.runs()))


def ls(store: Store, *, name: str | None = None, limit: int | None = None, now: float | None = None) -> list[Record]:
    """Return the records of all runs, newest first; of one experiment only when `name` is given.

    A run that can't be read is left out when it is no run at all, and raises StoreError when it is damaged.
    """
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(lambda run: listed(store, run, now), runs(store)))
    records = [record for record in found if record is not None and name in (None, record.name)]
    records.sort(key=lambda record: (record.when, record.run), reverse=True)
    return records[:limit]


def listed(store: Store, run: str, now: float | None) -> Record | None:
    try:
        return quick(store, run, now)
    except UsageError:
        return None
    except (KeyError, TypeError, ValueError) as e:
        raise StoreError(f"{store.url}: the run {run} can't be read: {e}", hint="it was not written by launcher") from e


def find(store: Store, prefix: str | None) -> str:
    """Return the run whose id begins with `prefix`, or the newest without one: ids begin with their time.

    Raises UsageError, with the choice, when it isn't exactly one, or when there is none at all.
    """
    every = runs(store)
    if prefix is None:
        return newest(store, every)
    if prefix in every:
        return prefix
    fitting = [run for run in every if prefix and run.startswith(prefix)]
    if len(fitting) == 1:
        return fitting[0]
    raise ambiguous(store.url, prefix, fitting)


def newest(store: Store, every: Sequence[str]) -> str:
    """Return the newest run that there is a job of: of one whose submitting failed there may be a folder."""
    for run in sorted(every, reverse=True):
        if store.exists(keys.job(run)) or store.exists(keys.record(run)):
            return run
    raise UsageError(f"there is no run in {store.url}", hint="`launcher run` makes one")


def ambiguous(url: str, prefix: str, fitting: Sequence[str]) -> UsageError:
    """Say why a beginning names no run."""
    if not fitting:
        return UsageError(f"no run in {url} begins with `{prefix}`", hint="`launcher ls` lists the runs")
    some = "\n  ".join(fitting[:NEAREST])
    more = f"\n  and {len(fitting) - NEAREST} more" if len(fitting) > NEAREST else ""
    return UsageError(f"{len(fitting)} runs begin with `{prefix}`:\n  {some}{more}", hint="write more of the id")


def next_attempt(store: Store, run: str) -> int:
    """Return the number of the attempt that would come next: 1 for a run that none was queued of.

    A number that was queued is never used again: whoever queued it may be about to begin.
    """
    return max(map(int, filter(str.isdigit, store.folders(keys.events(run)))), default=0) + 1
