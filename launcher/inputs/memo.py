"""What this machine has read of remote inputs: a file with the same mark isn't read again to know its digest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.inputs.items import Item

KIND = "remote-data"
WRITTEN_S = 20.0  # after a kill so much of what was read is read again at most


class Memo:
    """The digests of one source's files by their names and marks. Threads may share it."""

    def __init__(self, cache: Cache, identity: str) -> None:
        self.cache, self.key = cache, sha256_bytes(identity.encode())
        noted = cache.note(KIND, self.key)
        self.known: dict[str, object] = noted if isinstance(noted, dict) else {}
        self.guard = threading.Lock()
        self.written = time.monotonic()

    def fill(self, items: Iterable[Item]) -> list[Item]:
        """Return the items, with the digests of those that didn't change since they were read."""
        return [self.told(item) if item.sha256 is None and item.mark else item for item in items]

    def told(self, item: Item) -> Item:
        noted = self.known.get(item.name)
        if not isinstance(noted, list) or len(noted) != 3 or noted[0] != list(item.mark):
            return item
        return replace(item, sha256=str(noted[1]), size=int(noted[2]))

    def learn(self, item: Item) -> None:
        """Remember a file that was just read, and write it down now and then."""
        if not item.mark:
            return
        with self.guard:
            self.known[item.name] = [list(item.mark), item.sha256, item.size]
            if time.monotonic() - self.written > WRITTEN_S:
                self.write()

    def write(self, only: Iterable[str] | None = None) -> None:
        """Write it down; with `only`, forget the files that are no longer there."""
        if only is not None:
            self.known = {name: self.known[name] for name in only if name in self.known}
        self.cache.write_note(KIND, self.key, self.known)
        self.written = time.monotonic()
