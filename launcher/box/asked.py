"""Why a host side was asked to stop: somebody cancels the run, the box is about to be taken away, or is shut down.

| what comes | means |
| --- | --- |
| the file `cancel` | nobody wants the run any more: what runs is asked to end, and ended when it doesn't |
| a notice (launcher.box.notices) | the box goes: the run saves and makes way, and goes on when the box is back |
| SIGTERM, SIGINT | the machine is shut down, or its engine: the same |
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.box import notices, state
from launcher.errors import TargetError
from launcher.node.stopping import Askable
from launcher.target.model import Process

LOOK_S = 0.5
NOTICE_S = 3.0  # between two looks at notices: a box may have half a minute left
log = logging.getLogger(__name__)


class Asked(Askable):
    """Why, if anybody asked. Install it in the main thread, before anything takes long."""

    def __init__(self, run: Path, notice: Sequence[str] = (), grace_s: float = 60.0) -> None:
        self.run, self.notice, self.grace_s = run, notice, grace_s
        self.why: str | None = None  # "cancelled", "notice" or a signal's name
        self.process: Process | None = None
        self.signalled = False
        self.over = threading.Event()

    @property
    def wish(self) -> str | None:
        return self.why

    def install(self) -> None:
        """Take signals from now on, and watch for the rest in a thread."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.take)
        self.look()
        threading.Thread(target=self.watch, daemon=True).start()

    def take(self, number: int, frame: object) -> None:
        """Run in a signal handler."""
        self.signalled = True
        self.ask("cancelled" if state.is_cancelled(self.run) else signal.Signals(number).name)

    def watch(self) -> None:
        """Run in a thread."""
        noticed = 0.0
        while not self.over.wait(LOOK_S):
            self.look()
            if self.notice and time.monotonic() > noticed + NOTICE_S:
                noticed = time.monotonic()
                if found := notices.first(self.notice):
                    log.warning("the box is about to be taken away: %s", found)
                    self.ask("notice")

    def look(self) -> None:
        if self.why != "cancelled" and state.is_cancelled(self.run):
            self.ask("cancelled")

    def ask(self, why: str) -> None:
        """Ask what runs to end, once; a wish to cancel counts also when the box goes anyway."""
        if self.why is None or (why == "cancelled" and self.why != why):
            first, self.why = self.why is None, why
            if first:
                self.send(signal.SIGTERM)
            if why == "cancelled" and self.process is not None:
                threading.Thread(target=self.end, args=(self.process,), daemon=True).start()

    def end(self, process: Process) -> None:
        """Run in a thread: end what has not ended by itself. The runner does so with its command; this is for it."""
        if not self.over.wait(self.grace_s) and process is self.process:
            log.warning("what runs did not end within %.0f s: it is killed", self.grace_s)
            self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(TargetError, OSError):
                self.process.signal(number)

    def follow(self, process: Process | None) -> None:
        """Send what comes to this process from now on; one that was asked for before it began is asked at once."""
        self.process = process
        if process is not None and self.why:
            self.send(signal.SIGTERM)
            if self.why == "cancelled":
                threading.Thread(target=self.end, args=(process,), daemon=True).start()

    def again(self) -> None:
        """Forget that the box was to be taken away: it is still here."""
        if self.why == "notice":
            self.why = None
            self.notice = tuple(one for one in self.notice if not notices.one(one))

    def outlasted(self, seconds: float) -> bool:
        """Wait so long after a notice; tell whether the box is still here, and nobody has asked for anything else."""
        until = time.monotonic() + seconds
        while self.why == "notice" and not self.signalled and time.monotonic() < until:
            time.sleep(LOOK_S)
        return self.why != "notice" or not self.signalled
