"""Marks of those who delete artifacts, so that those who put some in at the same time lose nothing.

Whoever deletes sets a mark, and only then looks at what is referred to. Whoever has written a reference looks for marks
after that: of one that is going on it waits for the end, and of one that came since it had looked which files are there
it knows that these may be gone, and sends them again. So in any order of events one of them sees the other.
A mark that goes on but was not renewed for some minutes is a dead one's; its owner has stopped by then.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Iterator

from launcher.errors import StoreError
from launcher.progress import SILENT, Progress
from launcher.store import keys
from launcher.store.objects import Entry, Store

DEAD_S = 300.0  # a mark that was not renewed for so long holds nobody back
FORGOTTEN_S = 7 * 86400.0  # of ended ones; nobody puts files in for so long
LOOK_S = 2.0
GOING, DONE = ".going", ".done"


class Mark:
    """Our mark. Threads must not share it."""

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, secrets.token_hex(8)
        self.renewed_at = time.monotonic()
        self.write(GOING)

    def write(self, state: str) -> None:
        told = {"version": 1, "host": socket.gethostname()}
        self.store.put(keys.collecting(self.name + state), json.dumps(told).encode())

    def age_s(self) -> float:
        return time.monotonic() - self.renewed_at

    def renew(self) -> None:
        """Raises StoreError when it is too late for that: somebody may have taken us for dead."""
        if self.age_s() > DEAD_S / 2:
            raise StoreError("deleting was held up for too long", hint="run it again: what it deleted was garbage")
        self.write(GOING)
        self.renewed_at = time.monotonic()

    def end(self) -> None:
        self.write(DONE)
        self.store.delete(keys.collecting(self.name + GOING))


@contextlib.contextmanager
def marked(store: Store) -> Iterator[Mark]:
    """Set a mark, and end it. Raises StoreError when somebody else is deleting: not for safety, one is enough."""
    if going(store):
        raise StoreError(
            f"somebody else is deleting from {store.url} at this moment",
            hint=f"wait for its end; a dead one's mark counts no more after {DEAD_S / 60:.0f} minutes",
        )
    for old in all_of(store):
        if age_s(store, old) > FORGOTTEN_S:
            store.delete(old.key)
    mark = Mark(store)
    try:
        yield mark
    finally:
        mark.end()


def all_of(store: Store) -> list[Entry]:
    return store.list(keys.collecting())


def age_s(store: Store, mark: Entry) -> float:
    """Return how long ago a mark was last written, in seconds of the store's clock."""
    return (store.now() - mark.modified).total_seconds()


def going(store: Store) -> bool:
    """Tell whether somebody deletes artifacts at this moment."""
    return any(mark.key.endswith(GOING) and age_s(store, mark) < DEAD_S for mark in all_of(store))


def seen(store: Store) -> frozenset[str]:
    """Return the names of those marks that have ended: to be remembered before it is asked which files are there."""
    return frozenset(name_of(mark) for mark in all_of(store) if mark.key.endswith(DONE))


def name_of(mark: Entry) -> str:
    return mark.key.rpartition("/")[2].partition(".")[0]


def deleted_since(store: Store, before: frozenset[str] | None, progress: Progress = SILENT) -> bool:
    """Wait while somebody deletes. Return whether somebody has since `before` was `seen`, or None: it isn't known.

    To be called when the references are written.
    """
    if going(store):
        progress.note(f"a `launcher vault gc --delete` is at work in {store.url}: waiting for its end")
    waited = False
    while going(store):
        waited = True
        time.sleep(LOOK_S)
    return waited or before is None or not {name_of(mark) for mark in all_of(store)} <= before
