"""Signals: passed on to the command's process group at once, even while this process waits for a slow terminal.

SIGTERM, SIGINT and SIGHUP ask the run to end: the command has `grace_s` seconds from the first of them, then its
group gets SIGKILL. So it does when a second one comes more than a second later (schedulers send the first twice,
and a person who presses Ctrl-C again means it). Once the command is gone, a second one ends the storing as well.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque

from launcher.runner.command import FORWARDED, STOPPING, NotStarted, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.runner.command import Command

AGAIN_S = 1.0


class Signals:
    """Installed from the start; what comes before the command runs is passed on as soon as it does."""

    def __init__(self, grace_s: float, tell: Callable[[str, bool, bool], None]) -> None:
        self.grace_s, self.tell = grace_s, tell
        self.child: Command | None = None
        self.over = False  # the command and its group are gone
        self.enough = False  # somebody asked again while the rest was being stored
        self.early: list[int] = []
        self.untold: deque[tuple[str, bool, bool]] = deque()
        self.stopped_at: float | None = None
        self.killed_by_us = False
        self.asked_again = False  # so the kill was somebody's wish, and not for want of time
        self.wake_read, wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGALRM, lambda *_: self.kill())
        for signum in FORWARDED:
            signal.signal(signum, lambda number, _: self.caught(number))

    def refuse_early(self) -> None:
        """Raise NotStarted if somebody asked the run to end before its command began."""
        for signum in self.early:
            if signum in STOPPING:
                name = signal_name(signum)
                self.untold.append((name, True, False))
                raise NotStarted(128 + signum, f"asked to stop by {name} before the command started")

    def asked_early(self) -> bool:
        """Return whether somebody asked the run to end before its command began."""
        return any(signum in STOPPING for signum in self.early)

    def watch(self, child: Command) -> None:
        """Pass signals on to this command from now on."""
        self.child = child
        while self.early:
            self.caught(self.early.pop(0))

    def caught(self, signum: int) -> None:
        """Run in the main thread, between two byte codes or inside a blocking call: no locks here."""
        stops = signum in STOPPING
        if self.child is None:
            self.early.append(signum)
            return
        forwarded = not self.over and self.child.send(signum)
        self.untold.append((signal_name(signum), stops, forwarded))
        if stops:
            self.stop()

    def stop(self) -> None:
        now = time.monotonic()
        if self.stopped_at is None:
            self.stopped_at = now
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)
        elif self.over:
            self.enough = now - self.stopped_at > AGAIN_S
        elif now - self.stopped_at > AGAIN_S:
            self.asked_again = True
            self.kill()

    def kill(self) -> None:
        if self.child is not None and not self.over:
            self.killed_by_us = True
            self.child.send(signal.SIGKILL)

    def take(self) -> None:
        """Tell what was caught; called from the loop, where locks may be taken."""
        while self.untold:
            self.tell(*self.untold.popleft())

    def drain(self) -> None:
        """Empty the pipe that wakes the loop."""
        try:
            while os.read(self.wake_read, 512):
                pass
        except BlockingIOError:
            return
