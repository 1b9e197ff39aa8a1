"""Credentials that are asked for again before they end, and not more often than they have to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from launcher.store.credentials import moment

EARLY_S = 300.0  # before they end: what was signed with them has to arrive
STATIC_S = 10.0  # those that don't end may still be exchanged in their file


class Lasting:
    """A function of no arguments that returns credentials. Threads may share it."""

    def __init__(self, ask: Callable[[], dict[str, str]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._kept: dict[str, str] | None = None
        self._until = 0.0

    def __call__(self) -> dict[str, str]:
        """Return credentials, asked for now or before. Raises what asking raises."""
        with self._lock:
            if self._kept is None or time.time() >= self._until:
                self._kept = self._ask()
                self._until = time.time() + lasts(self._kept)
            return self._kept


def lasts(credentials: dict[str, str]) -> float:
    """Return for how many seconds credentials are good: at least a few, or a program would be called all the time."""
    if not (text := credentials.get("expires_at")):
        return STATIC_S
    return max(STATIC_S, moment(text).timestamp() - time.time() - EARLY_S)
