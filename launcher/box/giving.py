"""One round of relaying, the box's side: what its own store has of a run that the real store hasn't is sent, in order.

    request    "known" (launcher.box.stock.packed), "line" (launcher.box.lineage), "partial" {key: bytes}, "token",
               "claim" (the highest of the real store, as it is there)
    frames     "plan" (objects, bytes), "object" (key, rank, at, size, last, sha256), "lost" (key), "gone" (keys),
               and "end" (offered, over, foreign, line), or "end" (busy), or "end" (direct)

One round at a time: a process holds `relaying` while the other side still writes, which it tells by closing stdin. The
same machine's next round ends one before it whose line is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.box import state
from launcher.box.frames import Sender
from launcher.box.lineage import Line, foreign_from, line_from, shared
from launcher.box.stock import RANKS, Known, Stock, attempt_of, names, numbered, rank, read
from launcher.box.stream import relayed
from launcher.digest import sha256_bytes
from launcher.errors import StoreError
from launcher.runner.clock import stamp
from launcher.store import keys

LOCK = "relaying"
PIECE_BYTES = 1 << 18
PATIENCE_S = 10.0  # for another machine's round
STALL_S = 900  # a big object may take its time on its way from there to the real store
LINGER_S = 120.0  # for the other side to have written everything


def give(run: Path, request: Mapping[str, Any], sender: Sender) -> None:
    """Send what is new of a run. Raises BrokenPipeError, TargetError."""
    folder = relayed(run)
    if folder is None:
        sender.send("end", direct=True)
        return
    with alone(run / LOCK, str(request["token"]), sender) as mine:
        if not mine:
            sender.send("end", busy=True)
            return
        sender.stall_s = STALL_S
        Giving(run, folder, request, sender).work()
        time.sleep(LINGER_S)  # the process ends with its listener


@contextlib.contextmanager
def alone(path: Path, token: str, sender: Sender) -> Iterator[bool]:
    """Hold the right to relay; give False when another machine has it for longer than PATIENCE_S."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + PATIENCE_S
        while not (mine := state.locked(descriptor, fcntl.LOCK_EX)) and time.monotonic() < until:
            end_dead(descriptor, token)
            sender.beat()
            time.sleep(0.05)
        if mine:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"token": token, "pid": os.getpid()}).encode(), 0)
        yield mine
    finally:
        os.close(descriptor)


def end_dead(descriptor: int, token: str) -> None:
    """End the round before, if the same machine asked for it: that one has only one at a time."""
    with contextlib.suppress(ValueError, KeyError, OSError):
        told = json.loads(os.pread(descriptor, 4096, 0))
        if told["token"] == token:
            os.kill(int(told["pid"]), signal.SIGKILL)


class Giving:
    """One round."""

    def __init__(self, run: Path, folder: Path, request: Mapping[str, Any], sender: Sender) -> None:
        self.run, self.folder, self.sender = run, folder, sender
        self.stands = state.read(run)  # before the listing: what is over makes nothing more
        self.over = self.stands.over
        self.stock = Stock(folder)
        self.known, self.real = Known(request["known"]), line_from(request["line"])
        self.partial: Mapping[str, int] = request.get("partial") or {}
        self.line: Line = self.stock.line()
        self.claim = str(request.get("claim") or "")
        self.name = state.order(run).run
        self.prefix = keys.run(self.name)
        self.told_gone = False

    def work(self) -> None:
        self.fence()
        new = self.new()
        offered = [key for key in new if rank(key) != RANKS.index("heartbeat")]
        self.sender.send("plan", objects=len(offered), bytes=sum(self.stock.sizes[key] for key in offered))
        foreign = foreign_from(self.line, self.real)
        for key in new:
            if key == "record.json":
                self.gone()
                self.send_data(key, self.stock.record or b"")
            elif key.startswith("events/") and numbered(key)[1] == 0 and numbered(key)[0] not in self.real.queued:
                self.journal(numbered(key)[0])
                self.send(key)
            else:
                self.send(key)
        self.gone()
        if self.over and not offered and foreign is None:
            self.relayed()
        self.sender.send("end", offered=len(offered), over=self.over, foreign=foreign)

    def relayed(self) -> None:
        """Say that nothing of the run is here alone, unless it was begun anew since."""
        with state.changing(self.run):
            if state.read(self.run) == self.stands:
                (self.run / state.RELAYED).write_text(json.dumps({"when": stamp()}))

    def fence(self) -> None:
        """Let a runner here see that another machine has taken the run over: it ends then, as what it makes is lost."""
        highest = max(self.real.claims, default=0)
        if not self.claim or highest <= max(self.line.claims, default=0):
            return
        from launcher import store as stores

        with contextlib.suppress(StoreError):
            stores.open(str(self.folder.parent.parent)).create(keys.claim(self.name, highest), self.claim.encode())

    def new(self) -> list[str]:
        """Return what the real store lacks and may have, in the order in which it goes there."""
        ours = shared(self.line, self.real)
        found = []
        for key in self.stock.sizes:
            attempt = attempt_of(key, self.line.claims)
            if key in self.known and not key.startswith("heartbeats/"):
                continue
            if attempt in ours or (key == "record.json" and self.record_is(ours)):
                found.append(key)
        return sorted([*found, *self.blobs(found)], key=self.place)

    def blobs(self, new: Iterable[str]) -> set[str]:
        """Return what new checkpoints are made of and the real store lacks: whose it is tells the manifest."""
        named: set[str] = set()
        for key in new:
            if key.startswith("checkpoints/") and (data := read(self.folder / key)) is not None:
                named |= names(key, data)
        return {key for key in named if key in self.stock.sizes and key not in self.known}

    def record_is(self, ours: frozenset[int]) -> bool:
        """Tell whether the record speaks of attempts of the real store alone."""
        return self.stock.record is not None and set(self.line.queued) <= ours

    def place(self, key: str) -> tuple[int, int, str]:
        """Return what sorts objects: the event 0 of an attempt before its claim, all else by its key."""
        return rank(key), int(not key.startswith("events/") or numbered(key)[1] != 0), key

    def journal(self, attempt: int) -> None:
        """Send the entries of the journal that tell of an attempt: before its first event, as whoever queues it."""
        top = self.folder.parent.parent
        for path in top.glob(f"{keys.journal()}*-{attempt:04d}-{self.folder.name}"):
            self.object(path.relative_to(top).as_posix(), b"", 0, sha256_bytes(b""), at=0, last=True)

    def send(self, key: str) -> None:
        """Send an object, from where a round before was cut; small ones at once."""
        begin = self.partial.get(self.prefix + key, 0)
        try:
            with (self.folder / key).open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                begin = begin if begin <= size else 0
                digest = hashlib.sha256()
                self.skip(stream.read, begin, digest)
                at = begin
                while True:
                    piece = stream.read(PIECE_BYTES)
                    digest.update(piece)
                    last = at + len(piece) >= size or not piece
                    self.object(self.prefix + key, piece, size, digest.hexdigest() if last else None, at=at, last=last)
                    at += len(piece)
                    if last:
                        return
        except FileNotFoundError:
            self.sender.send("lost", key=self.prefix + key)

    def skip(self, read: Any, size: int, digest: Any) -> None:
        """Hash what the other side has already."""
        while size:
            piece = read(min(size, PIECE_BYTES))
            digest.update(piece)
            size -= len(piece)
            self.sender.beat()

    def send_data(self, key: str, data: bytes) -> None:
        for start in range(0, max(1, len(data)), PIECE_BYTES):
            last = start + PIECE_BYTES >= len(data)
            sha256 = sha256_bytes(data) if last else None
            self.object(self.prefix + key, data[start : start + PIECE_BYTES], len(data), sha256, at=start, last=last)

    def object(self, key: str, data: bytes, size: int, sha256: str | None, *, at: int, last: bool) -> None:
        where = {"rank": rank(key.removeprefix(self.prefix)) if key.startswith(self.prefix) else 0}
        self.sender.send("object", data, key=key, size=size, at=at, last=last, sha256=sha256, **where)

    def gone(self) -> None:
        """Tell which checkpoints of the real store are not here any more, and which of their blobs."""
        named = (key for key in self.known.keys if key.startswith(("checkpoints/", "blobs/")))
        gone = sorted(key for key in named if not (self.folder / key).exists())
        if gone and not self.told_gone:
            self.told_gone = True
            own = {
                epoch: sha256 for epoch, (attempt, sha256) in self.line.claims.items() if attempt in self.line.queued
            }
            claims = {str(epoch): sha256 for epoch, sha256 in own.items()}
            self.sender.send("gone", keys=gone, claims=claims)
