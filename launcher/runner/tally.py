"""What the runner counts of one attempt: metrics, lost log bytes, signals; and its pulse, the heartbeat."""

from __future__ import annotations

import contextlib
import threading
import time

from launcher.runner.metrics import Summary, Tail
from launcher.runner.outbox import Item, Outbox
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.spool import Spool

MOST_WAITING = 100  # objects in the outbox, beyond which metrics stay in their file


class Tally:
    """Shared by the runner's threads."""

    def __init__(self, attempt: Attempt, spool: Spool) -> None:
        self.attempt, self.spool = attempt, spool
        self.tail = Tail(attempt.path("metrics.jsonl"))
        self.summary = Summary()
        self.chunks = 0
        self.stopped: str | None = None  # the signal by which somebody asked the run to end
        self.cut_off_at: float | None = None  # Unix time at which the command ended, if not by its own will
        self.next_beat = time.monotonic() + attempt.times["heartbeat_s"]
        self.one_at_a_time = threading.Lock()

    def as_json(self) -> dict[str, Any]:
        return {"metrics": self.summary.as_json(), "log_bytes_lost": self.spool.lost_bytes}

    def collect(self, outbox: Outbox, final: bool = False) -> None:
        """Post what is new in the metrics file."""
        with self.one_at_a_time:
            while final or len(outbox.waiting) < MOST_WAITING:
                before = self.tail.offset
                lines = self.tail.lines()
                if final and self.tail.offset == before:
                    lines += self.tail.lines(final=True)
                self.post(outbox, self.summary.add_lines(lines))
                if self.tail.offset == before:
                    return

    def post(self, outbox: Outbox, lines: list[bytes]) -> None:
        if lines:
            key = keys.metric(self.attempt.run, self.attempt.number, self.chunks)
            outbox.post(Item(key, b"\n".join(lines) + b"\n"))
            self.chunks += 1

    def pulse(self, outbox: Outbox) -> None:
        """Collect metrics, and write the heartbeat when it is due."""
        with contextlib.suppress(OSError):  # a metrics file that can't be read now may be later
            self.collect(outbox)
        now = time.monotonic()
        if now < self.next_beat:
            return
        self.next_beat = now + self.attempt.times["heartbeat_s"]
        from launcher.runner.leases import renew

        with contextlib.suppress(Exception):  # the next one comes soon
            renew(outbox.store(), self.attempt, self.summary.rows)
