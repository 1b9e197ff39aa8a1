"""What the real store has of a run, as whoever relays to it knows: listed once, and kept up with what is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from launcher.box.lineage import Line
from launcher.box.stock import epoch, event_0, names, numbered
from launcher.digest import sha256_bytes
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.store.objects import Store


class Knowledge:
    """Keys below `runs/<run>/`, relative to that, and what decides whose an attempt is."""

    def __init__(self, opened: Store, run: str) -> None:
        self.opened, self.run, self.prefix = opened, run, keys.run(run)
        self.keys: set[str] = set()
        self.queued: dict[int, str] = {}
        self.claims: dict[int, tuple[int, str]] = {}
        self.highest = b""  # the claim that counts
        self.forgotten: set[str] = set()  # manifests (keys relative to the run) of which an event says so

    def load(self, whole: bool = False) -> None:
        """Look at the real store: at all of it at first and where `whole` is wanted, so that what was lost there is not
        believed to be there; else at what another machine may have written that decides whose the run is."""
        if whole or not self.keys:
            self.keys = {entry.key.removeprefix(self.prefix) for entry in self.opened.list(self.prefix)}
        else:
            self.keys |= {entry.key.removeprefix(self.prefix) for entry in self.opened.list(keys.claims(self.run))}
            self.keys |= {event_0(int(number)) for number in self.opened.folders(keys.events(self.run))}
        gates = [key for key in self.keys if self.is_gate(key)]
        wanted = [self.prefix + key for key in gates if not self.has_gate(key)]
        for key, data in self.opened.get_many(wanted) if wanted else ():
            own = key.removeprefix(self.prefix)
            if data is None:
                self.keys.discard(own)
            else:
                self.add(own, data)

    def is_gate(self, key: str) -> bool:
        return bool(epoch(key)) or (key.startswith("events/") and numbered(key)[1] == 0)

    def has_gate(self, key: str) -> bool:
        return epoch(key) in self.claims if epoch(key) else numbered(key)[0] in self.queued

    def line(self) -> Line:
        return Line(queued=self.queued, claims=self.claims)

    def add(self, key: str, data: bytes) -> None:
        """Note an object that is there; of events and claims also what it says."""
        self.keys.add(key)
        if number := epoch(key):
            self.claims[number] = (int(json.loads(data)["attempt"]), sha256_bytes(data))
            if number == max(self.claims):
                self.highest = data
        elif key.startswith("events/") and data:
            attempt, seq = numbered(key)
            if seq == 0:
                self.queued[attempt] = sha256_bytes(data)
            else:
                self.hear(data)

    def hear(self, data: bytes) -> None:
        """Take from an event what has been forgotten."""
        told = json.loads(data)
        if told.get("kind") == "forgotten":
            self.forgotten.add(str(told["key"]).removeprefix(self.prefix))

    def missing(self, key: str, data: bytes) -> str | None:
        """Return a key that a manifest names and that is not there; None where all are, or for what names none."""
        named = names(key.removeprefix(self.prefix), data)
        return next((one for one in sorted(named) if one not in self.keys), None)
