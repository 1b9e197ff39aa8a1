"""Signals of Slurm: what they mean here, and how the run is asked to stop.

| signal | sent when | what follows |
| --- | --- | --- |
| SIGUSR2 | the time limit is near (`--signal`), or a preemption is near | the run saves and makes way; we requeue |
| SIGTERM | preemption, `scancel`, `scontrol requeue`: Slurm acts itself | the run saves and makes way; Slurm goes on |
| SIGCONT | comes before SIGTERM | nothing |

SIGUSR2 is followed by a SIGTERM when the time is really over: that one is not passed on, for the run has been asked
already and a second one would keep it from storing the rest.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from launcher.errors import TargetError
from launcher.node.task import Task
from launcher.target.model import Process

EARLY_S = 90.0  # Slurm looks at time limits every 30 s, and may warn a minute early (sbatch(1), --signal)
TAKEN = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT)


class Stopped(TargetError):  # noqa: N818 - a fact
    """The task was asked to stop before its command began."""


class Askable:
    """Somebody may ask it to stop, also while it waits."""

    @property
    def wish(self) -> str | None:
        """Why somebody has asked, if anybody has."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise Stopped if somebody has asked."""
        if self.wish:
            raise Stopped(f"asked to stop ({self.wish}) before the command began")

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until somebody asks to stop. Raises Stopped."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left_s, 0.2))
        self.check()


class Stopping(Askable):
    """Why the task was asked to stop, if it was. Install it in the main thread, before anything takes long."""

    def __init__(self, task: Task, warn_s: float, clock: Callable[[], float] = time.time) -> None:
        self.task, self.warn_s, self.clock = task, warn_s, clock
        self.asked: str | None = None
        self.spared = False  # the SIGTERM behind a SIGUSR2 has come
        self.process: Process | None = None

    @property
    def wish(self) -> str | None:
        return self.asked

    def install(self) -> None:
        for number in TAKEN:
            signal.signal(number, self.take)

    def take(self, number: int, frame: object) -> None:
        """Run in a signal handler."""
        if number == signal.SIGCONT:
            return
        if number == signal.SIGUSR1:
            self.send(signal.SIGUSR1)
        elif self.asked in ("time limit", "preempted") and not self.spared:
            self.spared = number != signal.SIGUSR2
        else:
            self.asked = self.asked or self.meaning(number)
            self.send(signal.SIGTERM)

    def meaning(self, number: int) -> str:
        """Return why a signal came: SIGUSR2 long before the time limit announces a preemption."""
        if number != signal.SIGUSR2:
            return signal.Signals(number).name
        ends = self.task.ends
        early = ends is not None and ends - self.clock() > self.warn_s + EARLY_S
        return "preempted" if early else "time limit"

    def send(self, number: int) -> None:
        if self.process is not None:
            self.process.signal(number)

    def end_command(self) -> None:
        """Ask the command to end although nobody has asked us: another node of the attempt has failed."""
        self.send(signal.SIGTERM)

    def follow(self, process: Process | None) -> None:
        """Send what comes to this process from now on; one that was asked for before it began is asked at once."""
        self.process = process
        if process is not None and self.asked:
            process.signal(signal.SIGTERM)


def ignore_all() -> None:
    """Let what is about to be over end in peace: scontrol requeue answers with a SIGTERM for who called it."""
    for number in TAKEN:
        signal.signal(number, signal.SIG_IGN)


def end_now(code: int) -> None:
    """End this process at once: threads that hang on a store must not hold the exit code back."""
    os._exit(code)
