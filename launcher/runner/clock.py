"""Time as the store writes it, and the runner's own voice."""

from __future__ import annotations

import contextlib
import os
import time


def stamp(ns: int | None = None) -> str:
    """Return a time (nanoseconds since the epoch; now by default) as RFC 3339 in UTC with microseconds."""
    seconds, rest = divmod(time.time_ns() if ns is None else ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"


def say(text: str) -> None:
    """Tell the person who watches; on stderr, marked, so that nobody takes it for the command's."""
    with contextlib.suppress(OSError):
        os.write(2, f"launcher: {text}\n".encode(errors="backslashreplace"))
