"""One round of relaying as it comes in from a box: looked at, gathered until it is whole, and written in its order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.box.stock import RANKS, numbered
from launcher.digest import sha256_bytes, sha256_file
from launcher.errors import ObjectExistsError
from launcher.progress import Progress, Task
from launcher.ssh.admitting import admit, check_document, refused
from launcher.store.bulk import at_once

if TYPE_CHECKING:
    from launcher.box.frames import Told
    from launcher.ssh.relaying import Relay

BATCH_OBJECTS, BATCH_BYTES = 64, 8 << 20
GATE, CONTENT, MANIFEST, EVENT, HEARTBEAT, RECORD = range(len(RANKS))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round came to. `busy`: another machine relays; `direct`: there is nothing to relay; `complete`: the run is
    over, and all that it left is in the real store; `foreign`: the first attempt that isn't the real store's."""

    objects: int = 0
    bytes: int = 0
    busy: bool = False
    direct: bool = False
    complete: bool = False
    foreign: int | None = None
    trouble: str = ""


class Taking:
    """One round as it comes in."""

    def __init__(self, relay: Relay, progress: Progress) -> None:
        self.relay, self.progress = relay, progress
        self.opened, self.known, self.prefix = relay.opened, relay.known, relay.prefix
        self.batch: list[tuple[str, bytes]] = []
        self.rank = GATE
        self.foreign: set[int] = set()  # attempts that turned out to be others', between the look and the write
        self.trouble = ""  # why what comes last must not be written this time
        self.objects = self.bytes = 0
        self.bar: Task | None = None

    def work(self, frames: Iterator[tuple[Told, bytes]]) -> Outcome:
        try:
            return self.taken(frames)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise refused(self.relay.run, "", f"what can't be read: {e!r}") from e

    def taken(self, frames: Iterator[tuple[Told, bytes]]) -> Outcome:
        for told, payload in frames:
            kind = told["kind"]
            if kind == "plan" and told["objects"]:
                self.bar = self.progress.task(f"bring {self.relay.run}", told["bytes"])
                self.bar.__enter__()
            elif kind == "object":
                self.take(told, payload)
            elif kind == "lost":
                self.discard(told["key"])
            elif kind == "gone":
                self.flush()
                self.relay.forgetting.forget(told["keys"], told["claims"])
            elif kind == "end":
                self.flush()
                return self.outcome(told)
        raise AssertionError("a stream ends with an error or with its last frame")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)

    def outcome(self, told: Told) -> Outcome:
        if told.get("busy") or told.get("direct"):
            return Outcome(busy=bool(told.get("busy")), direct=bool(told.get("direct")))
        done = told["over"] and not told["offered"] and told["foreign"] is None
        foreign = min([*self.foreign, *([told["foreign"]] if told["foreign"] is not None else [])], default=None)
        return Outcome(
            objects=self.objects, bytes=self.bytes, complete=bool(done), foreign=foreign, trouble=self.trouble
        )

    def take(self, told: Told, payload: bytes) -> None:
        """Take a piece of an object. What is small and whole waits for others of its kind. Raises StoreError for what
        isn't the box's to send."""
        key, rank = told["key"], told["rank"]
        own = admit(self.relay.run, told, payload, self.rank)
        if rank != self.rank:
            self.flush()
            self.rank = rank
        if self.foreign:  # the next round is told of it, and sends what is ours
            return
        if own in self.known.keys and rank != HEARTBEAT:  # written once, by whomever
            return
        if self.bar is not None and rank != HEARTBEAT:
            self.bar.advance(len(payload))
        self.bytes += len(payload)
        if told["at"] == 0 and told["last"]:
            if sha256_bytes(payload) != told["sha256"]:
                self.trouble = f"{key} came damaged"
                return
            self.add(key, payload)
        else:
            self.piece(told, payload)

    def add(self, key: str, data: bytes) -> None:
        if key.startswith(self.prefix) and self.rank in (GATE, EVENT, RECORD):
            check_document(self.relay.run, key.removeprefix(self.prefix), data)
        if not self.wanted(key, data):
            return
        self.batch.append((key, data))
        if len(self.batch) >= BATCH_OBJECTS or sum(len(x) for _, x in self.batch) >= BATCH_BYTES:
            self.flush()

    def wanted(self, key: str, data: bytes) -> bool:
        """Tell whether an object may be written now: what it names has to be there."""
        if self.rank == MANIFEST and (missing := self.known.missing(key, data)):
            self.trouble = self.trouble or f"{key} names {missing}, which did not come"
            return False
        return not (self.rank in (EVENT, RECORD) and self.trouble)

    def flush(self) -> None:
        """Write what waits: the gate one by one, all else many at once."""
        batch, self.batch = self.batch, []
        if self.rank == GATE:
            for key, data in batch:
                self.open_gate(key, data)
            return
        for key, data in at_once(lambda one: self.write(*one), batch):
            self.wrote(key, data)

    def open_gate(self, key: str, data: bytes) -> None:
        """Write what decides whose an attempt is; where somebody else was first, the rest of the round is not taken."""
        if self.foreign:
            return
        key, there = self.write(key, data)
        if there != data and key.startswith(self.prefix):
            own = key.removeprefix(self.prefix)
            self.foreign.add(numbered(own)[0] if own.startswith("events/") else 0)
        self.wrote(key, there)

    def write(self, key: str, data: bytes) -> tuple[str, bytes]:
        """Write an object; return what is there then."""
        if self.rank == HEARTBEAT:
            self.opened.put(key, data)
            return key, data
        try:
            self.opened.create(key, data)
        except ObjectExistsError:
            return key, self.opened.get(key)
        return key, data

    def wrote(self, key: str, data: bytes) -> None:
        self.objects += self.rank != HEARTBEAT
        if key.startswith(self.prefix):
            own = key.removeprefix(self.prefix)
            self.known.add(own, data if self.rank in (GATE, EVENT) else b"")

    def piece(self, told: Told, payload: bytes) -> None:
        """Gather a big object, and write it once it is whole."""
        key = told["key"]
        part = self.relay.part(key)
        name = part.with_suffix(".key")
        if not name.exists():
            name.write_text(key)
        with part.open("r+b" if part.exists() else "w+b") as stream:
            if not 0 <= told["at"] <= stream.seek(0, os.SEEK_END):
                raise refused(self.relay.run, key, f"goes on at byte {told['at']}, which nothing leads to")
            stream.truncate(told["at"])
            stream.seek(told["at"])
            stream.write(payload)
        if not told["last"]:
            return
        if sha256_file(part)[0] != told["sha256"]:
            self.trouble = f"{key} came damaged"
            self.discard(key)
            return
        self.whole(key, part)
        self.discard(key)

    def whole(self, key: str, part: Path) -> None:
        """Write a big object. Contents go from the file; what is read anyway is small enough for the memory."""
        if self.rank == CONTENT:
            self.opened.put_file(key, part)
            self.wrote(key, b"")
        else:
            self.add(key, part.read_bytes())
            self.flush()

    def discard(self, key: str) -> None:
        for path in (self.relay.part(key), self.relay.part(key).with_suffix(".key")):
            path.unlink(missing_ok=True)
