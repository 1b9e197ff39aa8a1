"""Frames between the stream of a box and who reads it: a line of JSON, and as many bytes as it says.

launcher streams\n                       what comes before it was said by the login shell
{"kind": "out", "n": 5, ...}\nhello      and so on, to the end
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

MARK = b"launcher streams\n"
HEADER_BYTES = 1 << 16
PAYLOAD_BYTES = 1 << 20  # at most, of one frame
BEAT_S = 3.0  # a stream that has nothing to say says so this often
STALL_S = 60  # who takes nothing for so long is gone

Told = dict[str, Any]


class Sender:
    """Writes frames to a file descriptor. A process whose reader has stopped reading is ended by SIGALRM."""

    def __init__(self, descriptor: int = 1) -> None:
        self.descriptor, self.stall_s = descriptor, STALL_S
        self.said_at = time.monotonic()
        self.write(MARK)

    def send(self, kind: str, payload: bytes = b"", **told: Any) -> None:
        """Write a frame. Raises BrokenPipeError when nobody reads."""
        head = json.dumps({"kind": kind, "n": len(payload), **told}, separators=(",", ":")).encode()
        self.write(head + b"\n" + payload)

    def beat(self) -> None:
        """Say that there is nothing to say, if it is time to."""
        if time.monotonic() - self.said_at >= BEAT_S:
            self.send("beat")

    def write(self, data: bytes) -> None:
        signal.alarm(self.stall_s)
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]
        signal.alarm(0)
        self.said_at = time.monotonic()


class Reader:
    """Takes frames apart, in whatever pieces they come."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        """`read` returns what has come, b"" at the end."""
        self.read, self.held, self.ended = read, bytearray(), False

    def frames(self) -> Iterator[tuple[Told, bytes]]:
        """Yield (what the line says, payload) of each whole frame. Raises ValueError for what is none."""
        if not self.found(MARK):
            return
        self.taken(self.held.index(MARK) + len(MARK))
        while self.found(b"\n"):
            told = header(self.taken(self.held.index(b"\n") + 1))
            while len(self.held) < told["n"]:
                if not self.more():
                    return
            yield told, self.taken(told["n"])

    def found(self, mark: bytes) -> bool:
        """Read until a mark has come; return False at the end. Raises ValueError when it is too far away."""
        while mark not in self.held:
            if len(self.held) > HEADER_BYTES:
                raise ValueError("what comes is no stream of launcher's")
            if not self.more():
                return False
        return True

    def more(self) -> bool:
        piece = self.read()
        self.held += piece
        return bool(piece)

    def taken(self, size: int) -> bytes:
        data = bytes(self.held[:size])
        del self.held[:size]
        return data


def header(line: bytes) -> Told:
    """Read a frame's line. Raises ValueError."""
    told = json.loads(line)
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str):
        raise ValueError("a frame says no kind")
    if not isinstance(told.get("n"), int) or not 0 <= told["n"] <= PAYLOAD_BYTES:
        raise ValueError("a frame says no size")
    return told
