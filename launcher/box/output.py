"""The command's output on a box: frames in the run's file `out`, which one writes and any number read from any place.

A frame is one line of JSON, {"s": 1, "a": 2, "n": 5, "t": 1732204800.123}, and `n` bytes as the command printed them.
`s` is 1 for stdout, 2 for stderr, 0 for what launcher says itself; `a` the attempt; `t` Unix time in seconds. A writer
that is killed leaves a torn frame at the end, which a reader waits behind and the next writer cuts off.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

NAME = "out"
HEADER_BYTES = 200  # no header is longer
READ_BYTES = 1 << 20
MOST_BYTES = 4 << 30  # of output that a box keeps; the logs in the store have all of it
FULL = b"launcher: the box keeps no more output; `launcher logs` has all of it\n"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A piece of output; `next` is the offset behind it, where reading goes on."""

    stream: int
    attempt: int
    when: float
    data: bytes
    next: int


class Writer:
    """Appends frames; any number of threads may call it. There is one writer of a file at a time (`held`)."""

    def __init__(self, path: Path, most: int = MOST_BYTES) -> None:
        self.lock, self.most = threading.Lock(), most
        whole = end(path)
        self.stream = path.open("ab", buffering=0)
        self.stream.truncate(whole)
        self.size = whole

    def write(self, stream: int, attempt: int, data: bytes) -> None:
        """Append a frame. Raises OSError, such as ENOSPC; nothing of the frame is left then."""
        with self.lock:
            if not data or self.size > self.most:
                return
            if self.size + len(data) > self.most:
                self.append(framed(0, attempt, FULL))
                self.size = self.most + 1
            else:
                self.append(framed(stream, attempt, data))

    def append(self, frame: bytes) -> None:
        try:
            if self.stream.write(frame) != len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self.stream.truncate(self.size)
            raise
        self.size += len(frame)

    def say(self, attempt: int, text: str) -> None:
        """Append a line of launcher's own."""
        self.write(0, attempt, f"launcher: {text}\n".encode())

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()


def framed(stream: int, attempt: int, data: bytes) -> bytes:
    header = {"s": stream, "a": attempt, "n": len(data), "t": round(time.time(), 3)}
    return json.dumps(header, separators=(",", ":")).encode() + b"\n" + data


def read(path: Path, since: int = 0) -> Iterator[Frame]:
    """Yield the whole frames from an offset on, a frame's begin; nothing where the file isn't there yet.

    Raises ValueError when there is no frame at the offset.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(since)
            while frame := one(stream, since):
                yield frame
                since = frame.next
    except FileNotFoundError:
        return


def one(stream: BinaryIO, at: int) -> Frame | None:
    """Return the frame that begins where a stream stands; None when it is not whole yet."""
    line = stream.readline(HEADER_BYTES)
    if not line.endswith(b"\n"):
        if len(line) == HEADER_BYTES:
            raise ValueError(f"there is no frame at {at}")
        return None
    told = header(line, at)
    data = stream.read(told["n"])
    if len(data) < told["n"]:
        return None
    return Frame(stream=told["s"], attempt=told["a"], when=told["t"], data=data, next=at + len(line) + int(told["n"]))


def header(line: bytes, at: int) -> dict[str, int]:
    try:
        told = json.loads(line)
        if set(told) >= {"s", "a", "n", "t"} and told["n"] >= 0:
            return dict(told)
    except (ValueError, TypeError):
        pass
    raise ValueError(f"there is no frame at {at}")


def headers(path: Path) -> Iterator[tuple[dict[str, int], int]]:
    """Yield the header of each whole frame and the offset behind the frame; what is damaged counts as the end."""
    with contextlib.suppress(FileNotFoundError, ValueError), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        while (line := stream.readline(HEADER_BYTES)).endswith(b"\n"):
            told = header(line, stream.tell())
            if stream.seek(told["n"], os.SEEK_CUR) > size:
                return
            yield told, stream.tell()


def end(path: Path) -> int:
    """Return the offset behind the last whole frame."""
    return max((behind for _, behind in headers(path)), default=0)


def printed(path: Path, attempt: int) -> dict[int, int]:
    """Return how many bytes of stdout and stderr of an attempt are there."""
    many = {1: 0, 2: 0}
    for told, _ in headers(path):
        if told["a"] == attempt and told["s"] in many:
            many[told["s"]] += told["n"]
    return many


class Capture:
    """Everything that this process and its children print while it lasts becomes frames of one attempt.

    What a runtime starts writes to our own stdout and stderr, so these are pipes meanwhile, and what they were before
    comes back afterwards. Used by one thread of a process at a time.
    """

    def __init__(self, writer: Writer, attempt: int) -> None:
        self.writer, self.attempt = writer, attempt
        self.kept: dict[int, int] = {}
        self.pumps: list[threading.Thread] = []

    def __enter__(self) -> Capture:
        for number in (1, 2):
            out, into = os.pipe()
            self.kept[number] = os.dup(number)
            os.dup2(into, number)
            os.close(into)
            pump = threading.Thread(target=self.pump, args=(number, out), daemon=True)
            pump.start()
            self.pumps.append(pump)
        return self

    def pump(self, number: int, out: int) -> None:
        """Run in a thread until nobody can write any more. A full disk costs output here, never the run."""
        with open(out, "rb", buffering=0) as stream:
            while data := stream.read(READ_BYTES):
                self.take(number, data)

    def take(self, number: int, data: bytes) -> None:
        try:
            self.writer.write(number, self.attempt, data)
        except OSError:  # the store's logs have it
            return

    def __exit__(self, *error: object) -> None:
        for number, kept in self.kept.items():
            os.dup2(kept, number)
            os.close(kept)
        for pump in self.pumps:
            pump.join(timeout=5.0)  # a process that was left behind may hold the pipe
