"""Waiting for one's turn: until the attempt before has told its end, or gave no sign for the length of its lease.

Times are the store's, of objects and of now: clocks of nodes may differ by minutes.
"""

from __future__ import annotations

import json
import time

from launcher.runner.attempt import AttemptError
from launcher.runner.clock import say, stamp
from launcher.runner.fold import has_succeeded
from launcher.runner.history import in_order
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.store.objects import Entry, Store

LONGEST_PAUSE_S = 5.0
TOLD_EVERY_S = 30.0
TICK_S = 1.0  # some stores tell an object's time in whole seconds


class Turn:
    """What is known of the attempt before, and what was said of it."""

    def __init__(
        self, attempt: Attempt, stopped: Callable[[], bool] = lambda: False, tell: Callable[[str], None] = say
    ) -> None:
        self.attempt, self.stopped, self.tell = attempt, stopped, tell
        self.paused_s = 0.0  # how long others were waited for
        self.read: set[str] = set()  # events that say nothing of an end
        self.tell_at = 0.0
        self.sign: datetime | None = None  # the last one that was seen, and when, in monotonic seconds
        self.sign_at = 0.0

    def wait(self, store: Store, newest: dict[str, Any] | None) -> None:
        """Return when nobody has to be waited for. Raises AttemptError when it is stopped meanwhile, or
        when that attempt has succeeded meanwhile."""
        number = newest["attempt"] if newest else self.attempt.number - 1
        lease_s = newest["lease_s"] if newest else self.attempt.lease_s
        claimed = [newest["modified"]] if newest else []
        while number:
            events = store.list(keys.events(self.attempt.run, number))
            signs = claimed + last_signs(store, self.attempt.run, number, events)
            if not signs:
                return
            if self.has_ended(store, events):
                if self.paused_s:
                    refuse_succeeded(store, self.attempt, number, events)
                return
            silent_s = max((store.now() - max(signs)).total_seconds(), self.watched_s(max(signs)))
            left_s = lease_s + TICK_S - silent_s
            if left_s <= 0:
                return
            host = f" on {newest['host']}" if newest else ""
            self.pause(f"attempt {number}{host}", silent_s, left_s)

    def watched_s(self, sign: datetime) -> float:
        """Return how long we have seen no newer sign than this, by our own clock: no store's clock makes us wait for
        longer than a lease."""
        if sign != self.sign:
            self.sign, self.sign_at = sign, time.monotonic()
        return time.monotonic() - self.sign_at

    def pause(self, who: str, silent_s: float, left_s: float) -> None:
        if time.monotonic() >= self.tell_at:
            self.tell_at = time.monotonic() + TOLD_EVERY_S
            self.tell(
                f"{who} has not told its end: it gave its last sign {max(0, silent_s):.0f} s ago, "
                f"and its lease runs {left_s:.0f} s more; waiting for it"
            )
        began = now = time.monotonic()
        while (pause_s := began + min(left_s, LONGEST_PAUSE_S) - now) > 0:
            self.refuse_stop(who)
            time.sleep(min(pause_s, 0.2))
            now = time.monotonic()
        self.paused_s += now - began

    def refuse_stop(self, who: str) -> None:
        """Raise AttemptError when somebody has asked the run to end."""
        if self.stopped():
            raise AttemptError(f"asked to stop while waiting for {who}")

    def has_ended(self, store: Store, events: list[Entry]) -> bool:
        """Return whether an attempt has said that nothing more comes, or who saw its runner dead has."""
        fresh = [entry.key for entry in events if entry.key not in self.read]
        for key, data in store.get_many(fresh):
            if data is not None:
                if is_end(json.loads(data)):
                    return True
                self.read.add(key)
        return False


def refuse_succeeded(store: Store, attempt: Attempt, number: int, events: list[Entry]) -> None:
    """Raise AttemptError when the attempt before has come to a good end meanwhile."""
    told = [json.loads(data) for _, data in in_order(store, (entry.key for entry in events))]
    if has_succeeded(told):
        raise AttemptError(f"attempt {number} of {attempt.run} has succeeded: there is nothing left to go on with")


def last_signs(store: Store, run: str, number: int, events: list[Entry]) -> list[datetime]:
    """Return when an attempt that has begun gave signs of life; its first event, `queued`, is its client's."""
    beat = keys.heartbeat(run, number)
    beats = [entry for entry in store.list(beat.rpartition("/")[0] + "/") if entry.key == beat]
    return [entry.modified for entry in beats + [entry for entry in events if keys.numbers(entry.key)[1] > 0]]


def is_end(event: dict[str, Any]) -> bool:
    """`ended` alone is the command's end: its runner may still be storing."""
    if event["kind"] in ("closed", "superseded"):
        return True
    return event["kind"] == "ended" and event.get("by") in ("client", "node")


def renew(store: Store, attempt: Attempt, rows: int = 0) -> None:
    """Write the heartbeat, which renews the lease. Raises a LauncherError."""
    beat = {"time": stamp(), "every_s": attempt.times["heartbeat_s"], "rows": rows}
    store.put(keys.heartbeat(attempt.run, attempt.number), json.dumps(beat).encode())
