"""Delete from a vault what nothing refers to, without harm to those who write to it at the same time.

Old objects only, by the store's own clock: who puts artifacts into a vault refers to them after that. Who finds an
artifact there and relies on it could still lose it; so whoever deletes sets a mark first and looks at the references
after that, and whoever has written a reference looks for the mark (`launcher.vault.adding.outlasted`). One of them
sees the other, in any order of events. The mark is renewed; one that was not for some minutes is a dead one's.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from launcher.errors import AccessError, ObjectExistsError, StoreError
from launcher.progress import SILENT, Progress
from launcher.store import keys
from launcher.store.objects import Entry, Store
from launcher.vault.references import INPUTS, referred

ARTIFACTS = "artifacts/"
DEAD_S = 300.0  # a mark that was not renewed for so long holds nobody back
RENEWED_S = 30.0  # and after so long the references are looked at again
BATCH = 200


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """The artifacts of a store: those that something refers to, unreferred ones that are too new, and garbage."""

    kept: tuple[Entry, ...]
    young: tuple[Entry, ...]
    garbage: tuple[Entry, ...]


def look(store: Store, older_than: timedelta, *, inputs: bool = False) -> Sorted:
    """Tell what nothing refers to; with `inputs` also inputs that no lock and no run names. Raises StoreError."""
    present = [*store.list(ARTIFACTS), *store.list(INPUTS)]  # before the references: what comes later is not in it
    wanted, now = referred(store, inputs=inputs), clock(store)
    kept = tuple(entry for entry in present if digest_of(entry.key) in wanted)
    rest = [entry for entry in present if digest_of(entry.key) not in wanted]
    garbage = tuple(entry for entry in rest if now - entry.modified >= older_than)
    young = tuple(entry for entry in rest if now - entry.modified < older_than)
    return Sorted(kept=kept, young=young, garbage=garbage)


def clock(store: Store) -> datetime:
    """Return the store's time; this machine's where we may only read, and nothing is going to be deleted."""
    try:
        return store.now()
    except AccessError:
        return datetime.now(timezone.utc)


def digest_of(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def collect(
    store: Store, older_than: timedelta, progress: Progress = SILENT, *, inputs: bool = False
) -> tuple[Entry, ...]:
    """Delete what `look` tells of, unless somebody refers to it by then; return what was deleted.

    Raises StoreError when somebody else is at it, or the store refuses: what was deleted until then was garbage.
    """
    deleted: list[Entry] = []
    with marked(store, inputs=inputs) as mark:
        found = look(store, older_than, inputs=inputs).garbage
        with progress.task("deleting", len(found), "files") as task:
            for at in range(0, len(found), BATCH):
                batch = still(store, found[at : at + BATCH], mark)
                store.delete_many([entry.key for entry in batch])
                deleted += batch
                task.advance(len(found[at : at + BATCH]))
    return tuple(deleted)


def still(store: Store, batch: Sequence[Entry], mark: Mark) -> list[Entry]:
    """Look a second time, right before the deletion: at the references now and then, at the mark always."""
    if mark.wanted is None or mark.age_s() > RENEWED_S:
        mark.renew()
        mark.wanted = referred(store, inputs=mark.inputs)
    return [entry for entry in batch if digest_of(entry.key) not in mark.wanted]


class Mark:
    """Our mark in the store, and what was referred to when it was last renewed."""

    def __init__(self, store: Store, *, inputs: bool) -> None:
        self.store, self.inputs = store, inputs
        self.renewed_at = time.monotonic()
        self.wanted: set[str] | None = None

    def age_s(self) -> float:
        return time.monotonic() - self.renewed_at

    def renew(self) -> None:
        """Raises StoreError when it is too late for that: somebody may have taken us for dead."""
        if self.age_s() > DEAD_S / 2:
            raise StoreError("deleting was held up for too long", hint="run it again: what it deleted was garbage")
        self.store.put(keys.collecting(), told())
        self.renewed_at = time.monotonic()


def told() -> bytes:
    return json.dumps({"version": 1, "host": socket.gethostname()}).encode()


@contextlib.contextmanager
def marked(store: Store, *, inputs: bool) -> Iterator[Mark]:
    """Set the mark, and take it away at the end. Raises StoreError when somebody else's is there."""
    if under_way(store):
        raise StoreError(
            f"somebody else is deleting from {store.url} at this moment",
            hint=f"wait for its end; a dead one's mark counts no more after {DEAD_S / 60:.0f} minutes",
        )
    store.delete(keys.collecting())  # a dead one's
    mark = Mark(store, inputs=inputs)
    with contextlib.suppress(ObjectExistsError):  # two at once hurt nobody: both look at the references
        store.create(keys.collecting(), told())
    try:
        yield mark
    finally:
        store.delete(keys.collecting())


def under_way(store: Store) -> bool:
    """Tell whether somebody deletes artifacts at this moment, by the store's clock."""
    marks = store.list(keys.collecting().rpartition("/")[0] + "/")
    return any((store.now() - mark.modified).total_seconds() < DEAD_S for mark in marks)
