"""How fast uploads may go while the command runs, so that the training has the link when it needs it."""

from __future__ import annotations

import threading
import time


class Bandwidth:
    """A rate that all uploads share, in bytes a second; None is no limit. Threads may share it."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self.rate = bytes_per_s or 0
        self.lifted = threading.Event()
        self.lock = threading.Lock()
        self.paid_until = 0.0  # monotonic seconds at which what was taken so far is paid for
        if not self.rate:
            self.lifted.set()

    def take(self, n_bytes: int) -> None:
        """Wait until what others took before is paid for; then these bytes may go out."""
        if self.lifted.is_set():
            return
        with self.lock:
            begin = max(time.monotonic(), self.paid_until)
            self.paid_until = begin + n_bytes / self.rate
        self.lifted.wait(max(0.0, begin - time.monotonic()))

    def lift(self) -> None:
        """Let everything out at the speed of the link: the command has ended."""
        self.lifted.set()
