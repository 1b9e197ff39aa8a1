"""Go on after cuts: the same again, as soon as there is a way, for as long as that leads anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from launcher.progress import Progress, Task
from launcher.remote.host import LostWayError, NoWayError

T = TypeVar("T")
PATIENCE_S = 300  # without a byte that came through
FIRST_S = 30  # where nothing ever came through: that may be no cut, but how things are there
PAUSE_S = 2


class Counting:
    """A Progress that counts the bytes of all its tasks, for who asks whether anything moves."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.moved = progress, 0

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task:
        return CountingTask(self, self.progress.task(label, total, unit))

    def note(self, text: str) -> None:
        self.progress.note(text)


class CountingTask:
    """A Task of it."""

    def __init__(self, counting: Counting, task: Task) -> None:
        self.counting, self.task = counting, task

    def advance(self, amount: int = 1) -> None:
        self.counting.moved += amount
        self.task.advance(amount)

    def __enter__(self) -> CountingTask:
        self.task = self.task.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.__exit__(kind, error, trace)


def through_cuts(
    work: Callable[[], T],
    progress: Progress,
    moved: Callable[[], int] = lambda: 1,
    *,
    patience_s: float = PATIENCE_S,
    pause_s: float = PAUSE_S,
) -> T:
    """Work; where the way is lost meanwhile, work again. `moved` counts what got through so far.

    A way that was never there is no matter of patience, and one over which nothing ever came not much of one. Raises
    what `work` does, and LostWayError or NoWayError after `patience_s` seconds in which nothing got through.
    """
    lost_at: float | None = None
    told = False
    while True:
        before = moved()
        try:
            return work()
        except (LostWayError, NoWayError) as e:
            passing = isinstance(e, LostWayError) or (lost_at is not None and e.passing)
            now = time.monotonic()
            if lost_at is None or moved() > before:
                lost_at, told = now, False
            if not passing or now - lost_at > (patience_s if moved() else min(patience_s, FIRST_S)):
                raise
            if not told:
                progress.note("the connection was cut; going on as soon as there is a way")
                told = True
            time.sleep(pause_s)
