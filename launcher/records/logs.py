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
    seen: set[str] = set()
    yield from unread(store, run, attempt, seen)


def follow(
    store: Store,
    run: str,
    ended: Callable[[], bool],
    *,
    attempt: int | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """Return lines as they come, until `ended` and all is read."""
    seen: set[str] = set()
    while True:
        over = ended()  # asked before reading: what came before the end is then surely read
        yield from unread(store, run, attempt, seen)
        if over:
            return
        pause(POLL_S)


def unread(store: Store, run: str, attempt: int | None, seen: set[str]) -> Iterator[Line]:
    for entry in store.list(keys.logs(run, attempt)):
        if entry.key not in seen:
            seen.add(entry.key)
            yield from parse(store.get(entry.key), keys.numbers(entry.key)[0])


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
