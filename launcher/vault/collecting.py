"""Delete from a vault what nothing refers to, without harm to those who write to it at the same time.

Old objects only, by the store's own clock: who puts artifacts into a vault refers to them after that. Who finds an
artifact there and relies on it is kept safe by marks (`launcher.vault.marks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from launcher.errors import AccessError
from launcher.progress import SILENT, Progress
from launcher.store.objects import Entry, Store
from launcher.vault.marks import Mark, marked
from launcher.vault.references import INPUTS, referred

ARTIFACTS = "artifacts/"
RENEWED_S = 30.0  # after so long the mark is renewed, and the references are looked at again
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
    with marked(store) as mark:
        found, second = look(store, older_than, inputs=inputs).garbage, Second(store, mark, inputs=inputs)
        with progress.task("deleting", len(found), "files") as task:
            for at in range(0, len(found), BATCH):
                batch = second.still(found[at : at + BATCH])
                store.delete_many([entry.key for entry in batch])
                deleted += batch
                task.advance(len(found[at : at + BATCH]))
    return tuple(deleted)


class Second:
    """The second look, right before each deletion: at the references now and then, at the marks always."""

    def __init__(self, store: Store, mark: Mark, *, inputs: bool) -> None:
        self.store, self.mark, self.inputs = store, mark, inputs
        self.wanted: set[str] | None = None

    def still(self, batch: Sequence[Entry]) -> list[Entry]:
        """Return those of a batch that nothing refers to now."""
        if self.wanted is None or self.mark.age_s() > RENEWED_S:
            self.mark.renew()
            self.wanted = referred(self.store, inputs=self.inputs)
        return [entry for entry in batch if digest_of(entry.key) not in self.wanted]
