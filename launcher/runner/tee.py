"""The command's output: its bytes as they are to our own stdout and stderr, and as records to the log spool."""

from __future__ import annotations

import os
import select
import signal
import time

from launcher.runner.clock import stamp
from launcher.runner.command import Command, reap
from launcher.runner.logs import Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.runner.others import Gathering, Left
    from launcher.runner.signals import Signals
    from launcher.runner.spool import Spool

READ_BYTES = 256 << 10


class Tee:
    """The main loop's eyes: reads until the command has ended."""

    def __init__(self, child: Command, spool: Spool | Gathering | Left, signals: Signals) -> None:
        self.child, self.spool, self.signals = child, spool, signals
        self.lines = {child.stdout: Lines("stdout"), child.stderr: Lines("stderr")}
        self.own = {child.stdout: 1, child.stderr: 2}
        self.poller = select.poll()
        self.poller.register(signals.wake_read, select.POLLIN)
        for descriptor in self.lines:
            self.poller.register(descriptor, select.POLLIN)

    def until_end(self) -> int:
        """Pass output on until the command ends; return its wait status."""
        while True:
            self.step(self.pause_ms())
            status = reap(self.child.pid)
            if status is not None:
                self.let_save(status)
                return status

    def let_save(self, status: int) -> None:
        """Wait for what a shell began, where that itself was ended by our signal: the program it runs may be saving.

        Debian's sh stays beside the one command it was given, and SIGTERM ends it at once. The signal reached all of
        the process group, and all of it has `grace_s`; then, or when asked again, Signals kills what is left.
        """
        if self.signals.stopped_at is None or not os.WIFSIGNALED(status):
            return
        end = self.signals.stopped_at + self.signals.grace_s
        while time.monotonic() < end and self.child.send(0):
            self.step(50)
            reap(self.child.pid)

    def drain(self, left_s: float) -> None:
        """Take what is still in the pipes, and end what is left of the process group: SIGTERM, then SIGKILL."""
        if self.child.send(signal.SIGTERM):
            end = time.monotonic() + left_s
            while time.monotonic() < end and self.child.send(0):
                self.step(50)
                reap(self.child.pid)
            self.child.send(signal.SIGKILL)
        self.signals.over = True
        while self.step(0):
            pass
        self.flush()

    def pause_ms(self) -> int:
        """Return how long nothing needs to be done: until the spool's chunk is old enough."""
        waits = self.spool.size or any(lines.rest for lines in self.lines.values())
        return int(self.spool.age_s * 500) if waits else 3_600_000

    def step(self, timeout_ms: int) -> bool:
        """Wait for output, a signal or the time; return whether there was output."""
        busy = False
        for descriptor, _ in self.poller.poll(timeout_ms):
            if descriptor == self.signals.wake_read:
                self.signals.drain()
            else:
                busy = self.pass_on(descriptor) or busy
        self.signals.take()
        now = time.monotonic()
        if not busy:
            self.flush()
        self.spool.tick(now)
        return busy

    def flush(self) -> None:
        """Log unfinished lines, such as a prompt or a progress bar."""
        for lines in self.lines.values():
            self.spool.add(lines.flush(stamp().encode()), time.monotonic())

    def pass_on(self, descriptor: int) -> bool:
        data = os.read(descriptor, READ_BYTES)
        if not data:
            self.poller.unregister(descriptor)
            os.close(descriptor)
            return False
        self.write(descriptor, data)
        records = self.lines[descriptor].feed(data, stamp().encode())
        self.spool.add(records, time.monotonic())
        return True

    def write(self, descriptor: int, data: bytes) -> None:
        """Write to our own stream. When nobody listens there any more the run goes on, and so do the logs."""
        view = memoryview(data)
        while view and self.own.get(descriptor) is not None:
            try:
                view = view[os.write(self.own[descriptor], view) :]
            except BlockingIOError:
                select.select([], [self.own[descriptor]], [], 1.0)
            except OSError:
                del self.own[descriptor]
