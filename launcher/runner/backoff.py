"""Pauses between tries: exponential, with full jitter, so that a thousand runs don't come back in the same second.

Each pause is evenly drawn between nothing and the present limit, which doubles from try to try (M. Brooker,
"Exponential Backoff And Jitter", 2015).
"""

from __future__ import annotations

import os

LONGEST_S = 30.0


class Backoff:
    """The pauses of one thing that is tried again and again."""

    def __init__(self, first_s: float, longest_s: float = LONGEST_S) -> None:
        self.first_s, self.longest_s = first_s, longest_s
        self.limit_s = first_s

    def worked(self) -> None:
        self.limit_s = self.first_s

    def pause_s(self, least_s: float = 0.0) -> float:
        """Return how long to wait before the next try, in seconds."""
        drawn = int.from_bytes(os.urandom(4), "big") / (1 << 32)
        pause_s = max(least_s, drawn * self.limit_s)
        self.limit_s = min(self.limit_s * 2, self.longest_s)
        return pause_s
