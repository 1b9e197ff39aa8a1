"""Waiting for what may come back by itself: a store that doesn't answer, a full disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from launcher.errors import AccessError, DiskFullError, ObjectExistsError, ObjectMissingError, StoreError
from launcher.runner.backoff import Backoff

PATIENCE_S = 900.0
FIRST_S = 1.0
TOLD_EVERY_S = 60.0
HOPELESS = (AccessError, ObjectExistsError, ObjectMissingError)
log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Sleeper(Protocol):
    """Who is told when to stop, and sleeps no longer than until then."""

    def sleep(self, seconds: float) -> None: ...


class Patience:
    """Tries things again until they work, `limit_s` long; then the last error is raised."""

    def __init__(self, stopping: Sleeper | None, limit_s: float = PATIENCE_S) -> None:
        self.stopping, self.limit_s = stopping, limit_s

    def until(self, action: Callable[[], Answer]) -> Answer:
        """Return what an action returns at last. Raises what waiting does not heal, and Stopped."""
        began, backoff, told_at = time.monotonic(), Backoff(FIRST_S), 0.0
        while True:
            try:
                answer = action()
            except (StoreError, DiskFullError) as e:
                now = time.monotonic()
                if isinstance(e, HOPELESS) or now > began + self.limit_s:
                    raise
                if not told_at or now > told_at + TOLD_EVERY_S:
                    log.warning("%s; trying again", e.problems[0].message)
                    told_at = now
                self.pause(backoff.pause_s(0.2))
            else:
                if told_at:
                    log.info("it works again, after %.0f s", time.monotonic() - began)
                return answer

    def pause(self, seconds: float) -> None:
        if self.stopping is None:
            time.sleep(seconds)
        else:
            self.stopping.sleep(seconds)
