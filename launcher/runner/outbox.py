"""The way to the store: small objects in order, each created once and tried again until it is there.

One thread ships; it opens the store, which loads obstore, so that nothing of that delays the command's start.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque

from launcher.runner.backoff import Backoff
from launcher.runner.clock import say, stamp
from launcher.runner.freight import Freight
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.spool import Chunk
    from launcher.store.objects import Store

AT_ONCE_S = 1.0  # then the heartbeat gets its turn


class Item:
    """An object that waits for its turn."""

    __slots__ = ("chunk", "data", "key")

    def __init__(self, key: str, data: bytes, chunk: Chunk | None = None) -> None:
        self.key, self.data, self.chunk = key, data, chunk

    def read(self) -> bytes:
        return self.data if self.chunk is None else self.chunk.read()


class Outbox:
    """Everything small that is on its way. Any thread may post; one thread runs `work`."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.waiting: deque[Item] = deque()
        self.changed = threading.Condition()
        self.opened: Store | None = None
        self.opening = threading.Lock()
        self.failing: str | None = None  # why the last try failed
        self.freight = Freight()  # the big things, which others send; and when anything last moved
        self.thread = 0  # which one ships, by the kernel's number
        self.posted: list[dict[str, Any]] = []  # this attempt's events, for the record
        self.lost: list[str] = []  # what can't be shipped any more, and why
        self.seq = 0

    def event(self, kind: str, **facts: Any) -> None:
        """Post an event of this attempt. The client's `queued` has number 0; ours begin with 1."""
        with self.changed:
            self.seq += 1
            told = {"kind": kind, "time": stamp(), "attempt": self.attempt.number, "seq": self.seq, **facts}
            self.posted.append(told)
            key = keys.event(self.attempt.run, self.attempt.number, self.seq)
            self.waiting.append(Item(key, json.dumps(told).encode()))
            self.changed.notify_all()

    def post(self, item: Item) -> None:
        with self.changed:
            self.waiting.append(item)
            self.changed.notify_all()

    def store(self) -> Store:
        """Return the store, opened at the first call. Raises a LauncherError, ImportError or ValueError."""
        from launcher import store
        from launcher.store.access import from_json

        with self.opening:
            if self.opened is None:
                told = self.attempt.store
                self.opened = store.open(told if isinstance(told, str) else from_json(told))
            return self.opened

    def work(self, every_s: float, pulse: Callable[[Outbox], None]) -> None:
        """Ship for ever; call `pulse` about every `every_s` seconds."""
        self.thread = threading.get_native_id()
        backoff = Backoff(self.attempt.times["retry_s"])
        while True:
            pulse(self)
            if self.ship_all():
                backoff.worked()
                self.wait(every_s)
            else:
                time.sleep(backoff.pause_s())

    def wait(self, at_most_s: float) -> None:
        with self.changed:
            if not self.waiting:
                self.changed.wait(at_most_s)

    def ship_all(self) -> bool:
        """Ship what waits, in order, for a second or so. Return False when the store refused."""
        end = time.monotonic() + AT_ONCE_S
        while self.waiting and time.monotonic() < end:
            item = self.waiting[0]
            try:
                self.ship(item)
            except Exception as e:  # whatever it is: the command must not suffer, and it may be over in a second
                self.refused(item, e)
                return False
            self.worked()
            self.freight.moved()
            with self.changed:
                self.waiting.popleft()
                self.changed.notify_all()
        return True

    def ship(self, item: Item) -> None:
        try:
            data = item.read()
        except OSError as e:
            if item.chunk is None or not item.chunk.dropped:  # that was told and counted
                self.lose(f"{item.key}: {e}")
            return
        try:
            self.store().create(item.key, data)
        except Exception as e:
            if type(e).__name__ != "ObjectExistsError":
                raise
            if self.store().get(item.key) != data:
                self.lose(f"{item.key}: somebody else wrote it: two runners have this attempt")
        if item.chunk is not None:
            item.chunk.forget()

    def lose(self, why: str) -> None:
        if not self.lost:
            say(f"lost: {why}")
        self.lost.append(why)

    def refused(self, item: Item, error: Exception) -> None:
        """Tell why the store fails, once for each reason in a row; the tries go on."""
        why = reason(error)
        if self.failing is None or self.failing.partition(":")[0] != why.partition(":")[0]:
            short = why.replace(f"{item.key}: ", "", 1)
            say(f"the store does not take {item.key}: {short}; it is tried again, the command goes on")
        self.failing = why

    def worked(self) -> None:
        """Tell that a trouble that was told is over."""
        if self.failing is not None:
            say("the store takes what it is given again: what waited goes there now")
        self.failing = None

    def drained(self, timeout_s: float) -> bool:
        """Wait until nothing waits."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.waiting, timeout_s)


def reason(error: Exception) -> str:
    """Return what went wrong in one line, with what to do about it."""
    problems = getattr(error, "problems", ())
    said = problems[0].message if problems else str(error)
    hint = f" ({problems[0].hint})" if problems and problems[0].hint else ""
    return f"{type(error).__name__}: {said.partition(chr(10))[0]}{hint}"
