"""Relaying, this side: what a box's own store has new is written to the real store, such that it never shows a half.

Rounds are independent: each says what the real store has, and takes what comes in order: what is named before what
names it. A big object lies in the cache until it is whole, and a round that was cut goes on at its last byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.box.stock import RANKS, numbered, packed
from launcher.cache import disk_full
from launcher.digest import sha256_bytes, sha256_file
from launcher.errors import ObjectExistsError
from launcher.progress import SILENT, Progress, Task
from launcher.ssh.forgetting import Forgetting
from launcher.ssh.knowledge import Knowledge
from launcher.ssh.listening import listen
from launcher.store import keys
from launcher.store.bulk import at_once

if TYPE_CHECKING:
    from launcher.box.frames import Told
    from launcher.cache import Cache
    from launcher.ssh.door import Door
    from launcher.store.objects import Store

SMALL_BYTES = 1 << 18  # as one frame has them; what is bigger goes through a file
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


class Relay:
    """Brings one run's objects to the real store, round by round. Not for several threads."""

    def __init__(self, opened: Store, run: str, cache: Cache) -> None:
        self.opened, self.run, self.prefix = opened, run, keys.run(run)
        self.known = Knowledge(opened, run)
        self.forgetting = Forgetting(opened, run, self.known)
        own = sha256_bytes(f"{opened.url}\0{run}".encode())[:32]
        self.folder = cache.root / "relay" / own
        self.token = sha256_bytes(f"{os.uname().nodename}\0{self.folder}".encode())

    def round(self, door: Door, progress: Progress = SILENT, *, whole: bool = False) -> Outcome:
        """Take what is new. Raises LostWayError when the way is lost, and errors of the store; the next round goes on.

        One at a time on this machine, which waits for others of it, and one at a time on the box. With `whole` the
        store is listed anew before: what was written and is gone comes again.
        """
        with self.alone():
            self.known.load(whole)
            request = {
                "call": "objects",
                "run": self.run,
                "token": self.token,
                "known": packed(self.known.keys),
                "line": self.known.line().to_json(),
                "partial": self.partial(),
                "claim": self.known.highest.decode(),
            }
            with listen(door, request) as frames:
                taking = Taking(self, progress)
                try:
                    outcome = taking.work(frames)
                finally:
                    taking.close()
            if outcome.complete or outcome.direct:
                shutil.rmtree(self.folder, ignore_errors=True)
            return outcome

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with disk_full(self.folder.parent.parent):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "held").open("wb") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                yield

    def part(self, key: str) -> Path:
        """Return where the bytes of a big object are gathered."""
        return self.folder / f"{sha256_bytes(key.encode())}.part"

    def partial(self) -> dict[str, int]:
        """Return how much there is of objects that were cut."""
        found = {}
        for path in self.folder.glob("*.key"):
            with contextlib.suppress(OSError):
                key = path.read_text()
                found[key] = self.part(key).stat().st_size
        return found


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
        """Take a piece of an object. What is small and whole waits for others of its kind."""
        key, rank = told["key"], told["rank"]
        if rank != self.rank:
            self.flush()
            self.rank = rank
        if self.foreign:  # the next round is told of it, and sends what is ours
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
