"""How much there is to store and how much is there: for patience at the end of a run, and for the person who waits."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque

WINDOW_S = 15.0  # the speed is that of the last seconds
TELL_AFTER_S = 3.0
LINE_EVERY_S = 30.0  # where lines are kept; on a terminal one is drawn over
DRAW_EVERY_S = 0.5
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class Freight:
    """Counts files and bytes on their way. Threads share it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files = self.files_done = self.bytes = self.bytes_done = 0
        self.moved_at = time.monotonic()  # when something last moved
        self.samples: deque[tuple[float, int]] = deque()

    def expect(self, files: int, n_bytes: int) -> None:
        """Take note of what is to be stored; negative where it isn't any more."""
        with self.lock:
            self.files += files
            self.bytes += n_bytes

    def restart(self) -> None:
        """Count from here: what is in the store is no part of what is waited for."""
        with self.lock:
            self.files, self.bytes = self.files - self.files_done, self.bytes - self.bytes_done
            self.files_done = self.bytes_done = 0
            self.samples.clear()

    def moved(self, n_bytes: int = 0, files: int = 0) -> None:
        """Take note that bytes went out and files arrived; negative bytes are those of a try that failed."""
        now = time.monotonic()
        with self.lock:
            self.bytes_done += n_bytes
            self.files_done += files
            if n_bytes >= 0:
                self.moved_at = now
            self.samples.append((now, self.bytes_done))
            while len(self.samples) > 2 and now - self.samples[0][0] > WINDOW_S:
                self.samples.popleft()

    def bytes_per_s(self, now: float) -> float:
        with self.lock:
            if not self.samples or now - self.samples[0][0] < 0.5:
                return 0.0
            began, before = self.samples[0]
            return max(0.0, (self.bytes_done - before) / (now - began))

    def line(self, now: float) -> str:
        """Return `3 of 12 files, 1.2 of 4.0 GB, 85 MB/s, about 33 s left`."""
        parts = [f"{self.files_done} of {self.files} files, {amount(self.bytes_done, self.bytes)}"]
        left, speed = self.bytes - self.bytes_done, self.bytes_per_s(now)
        if speed > 0 and left > 0:
            parts += [f"{amount(speed)}/s", f"about {left / speed:.0f} s left"]
        return ", ".join(parts)


def amount(n_bytes: float, of: float | None = None) -> str:
    """Return `1.2 GB`, or `1.2 of 4.0 GB` in the unit of the larger one."""
    largest = max(n_bytes, of or 0)
    unit, size = next((row for row in UNITS if largest >= row[1]), ("B", 1.0))
    digits = 1 if largest < 10 * size and size > 1 else 0
    told = f"{n_bytes / size:.{digits}f}"
    return f"{told} {unit}" if of is None else f"{told} of {of / size:.{digits}f} {unit}"


class Progress:
    """Tells on stderr how far the storing is, when it takes longer than a few seconds."""

    def __init__(self, freight: Freight, descriptor: int = 2) -> None:
        self.freight, self.descriptor = freight, descriptor
        self.drawn = False
        self.began = time.monotonic()
        self.next_at = self.began + TELL_AFTER_S
        self.terminal = os.isatty(descriptor)

    def tick(self, small: int, trouble: str | None) -> None:
        """Tell, when it is time. `small` is how many small objects wait, `trouble` what the store last said."""
        now = time.monotonic()
        if now < self.next_at:
            return
        self.next_at = now + (DRAW_EVERY_S if self.terminal else LINE_EVERY_S)
        told = [self.freight.line(now)] if self.freight.files > self.freight.files_done else []
        told += [f"{small} log chunks and events"] if small else []
        told += [f"the store takes nothing: {trouble}"] if trouble else []
        self.write(f"launcher: storing: {'; '.join(told) or 'the record'}")

    def write(self, line: str) -> None:
        self.drawn = self.terminal
        data = f"\r\x1b[2K{line}" if self.terminal else f"{line}\n"
        with contextlib.suppress(OSError):
            os.write(self.descriptor, data.encode(errors="backslashreplace"))

    def over(self) -> None:
        """Take the line off the terminal."""
        if self.drawn:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, b"\r\x1b[2K")
