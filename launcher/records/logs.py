"""A run's output, read back from its log chunks, as it grows or when all is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from launcher.records.model import Record
from launcher.runner.fold import seconds
from launcher.store import keys
from launcher.store.objects import Store

Stream = Literal["stdout", "stderr"]
POLL_S = 0.5
SLOWER = 1.5  # each time that nothing has come
SLOWEST_S, SLOWEST_FOLDER_S = 5.0, 1.0
WINDOW = 64  # chunks read at once
MOST_LATE = 512  # chunks after one that is missing, until nobody waits for that any more
LATE_S = 120.0  # after its end a run that is still storing has so long before nobody waits for it any more


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line, or a piece of one that has not ended. `data` are the command's bytes, without the line feed."""

    attempt: int
    time: str
    stream: str
    data: bytes
    whole: bool


def parse(chunk: bytes, attempt: int) -> Iterator[Line]:
    """Read the records of a chunk; what is no record is passed over."""
    for record in chunk.split(b"\n"):
        parts = record.split(b" ", 3)
        if len(parts) == 4 and parts[2] in (b"F", b"P"):
            stamp, stream = parts[0].decode("ascii", "replace"), parts[1].decode("ascii", "replace")
            yield Line(attempt=attempt, time=stamp, stream=stream, data=parts[3], whole=parts[2] == b"F")


def read(store: Store, run: str, *, attempt: int | None = None) -> Iterator[Line]:
    """Return what is there now, in order."""
    yield from Reader(store, run, attempt).new_lines()


def follow(
    store: Store,
    run: str,
    ended: Callable[[], bool],
    *,
    attempt: int | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """Return lines as they come, until `ended` and all is read.

    While nothing comes a store is asked more and more seldom, down to every SLOWEST_S; whether the run has ended,
    which costs several requests, is asked only then.
    """
    reader, pause_s = Reader(store, run, attempt), POLL_S
    slowest_s = SLOWEST_S if store.folder is None else SLOWEST_FOLDER_S
    while True:
        before = reader.chunks
        yield from reader.new_lines()
        if reader.chunks > before:
            pause_s = POLL_S
        elif ended():
            yield from reader.new_lines()  # what came before the end is then surely read
            return
        else:
            pause_s = min(pause_s * SLOWER, slowest_s)
        pause(pause_s)


class Reader:
    """Reads the chunks of a run's logs, each once: one listing tells what has come after the last one in order."""

    def __init__(self, store: Store, run: str, attempt: int | None) -> None:
        self.store, self.run, self.attempt = store, run, attempt
        self.seen: set[str] = set()  # of those after `after`
        self.after: str | None = None  # up to here, none is missing
        self.chunks = 0

    def new_lines(self) -> Iterator[Line]:
        listed = [entry.key for entry in self.store.list(keys.logs(self.run, self.attempt), after=self.after)]
        new = [key for key in listed if key not in self.seen]
        for key, data in in_turn(self.store, new):
            self.seen.add(key)
            self.chunks += 1
            yield from parse(data, keys.numbers(key)[0])
        self.advance(listed)

    def advance(self, listed: list[str]) -> None:
        """Move on past the chunks that follow each other: before a gap one may still come."""
        at = keys.numbers(self.after) if self.after else None
        for key in listed:
            attempt, number = keys.numbers(key)
            if number and at != (attempt, number - 1):
                break
            at, self.after = (attempt, number), key
        if len(self.seen) > MOST_LATE:  # what is still missing was lost
            self.after = sorted(self.seen)[-WINDOW]
        self.seen = {key for key in self.seen if self.after is None or key > self.after}


def in_turn(store: Store, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield objects in the order of their keys, read many at a time; those that are gone are passed over."""
    for start in range(0, len(wanted), WINDOW):
        some = wanted[start : start + WINDOW]
        found = dict(store.get_many(some)) if len(some) > 1 else {some[0]: store.get(some[0])}
        for key in some:
            if (data := found[key]) is not None:
                yield key, data


def finished(record: Record, now: float | None = None) -> bool:
    """Tell whether a run has said all that it will say, as far as anybody can know."""
    if record.state in ("queued", "running"):
        return False
    if record.state == "unknown" or not record.attempts or record.attempts[-1].closed:
        return True
    return (time.time() if now is None else now) - seconds(record.ended or "") > LATE_S


def joined(lines: Iterator[Line]) -> Iterator[Line]:
    """Put the pieces of each line together: one line for each line of the command."""
    pieces: dict[tuple[int, str], Line] = {}
    for line in lines:
        key = (line.attempt, line.stream)
        before = pieces.pop(key, None)
        if before is not None:
            line = Line(
                attempt=line.attempt,
                time=before.time,
                stream=line.stream,
                data=before.data + line.data,
                whole=line.whole,
            )
        if line.whole:
            yield line
        else:
            pieces[key] = line
    yield from pieces.values()


def as_shown(data: bytes) -> bytes:
    """Return what a terminal would show of a line in the end: after its last carriage return."""
    bare = data.rstrip(b"\r")
    return bare[bare.rfind(b"\r") + 1 :]
