"""Which artifacts something refers to: every sha256 that stands in a lock, a job, a record or a list of inputs.

Too many are better than too few: whatever looks like a digest counts as one, also in what a newer launcher wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from launcher.records.reading import runs
from launcher.store import keys
from launcher.store.objects import Store

DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
LOCKS, SWEEPS, INPUTS = "locks/", "sweeps/", "inputs/"


def referred(store: Store, *, inputs: bool = False) -> set[str]:
    """Return every sha256 that something in the store refers to, the lists of inputs among them.

    A run counts from the moment that its job is written, whether it is queued, runs or has ended. An input counts by
    itself, since somebody has put it there; with `inputs` only one that a lock or a run names. Raises StoreError.
    """
    roots = [entry.key for prefix in (LOCKS, SWEEPS) for entry in store.list(prefix)]
    found = digests(store, [*roots, *of_runs(runs(store))])
    lists = {entry.key.rpartition("/")[2].removesuffix(".json"): entry.key for entry in store.list(INPUTS)}
    found |= set() if inputs else set(lists)
    return found | digests(store, [key for digest, key in lists.items() if digest in found])


def of_runs(found: Iterable[str]) -> Iterable[str]:
    """Return what of each run may name an artifact: its job, its record, and the facts about its code."""
    for run in found:
        yield from (keys.job(run), keys.record(run), keys.event(run, 1, 0))


def digests(store: Store, wanted: Iterable[str]) -> set[str]:
    return {
        match.decode() for _, data in store.get_many(list(wanted)) if data is not None for match in DIGEST.findall(data)
    }
