"""Several at once: what is done for many files by a few threads, without losing an error on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")
    R = TypeVar("R")


def each(
    action: Callable[[T], R],
    items: Sequence[T],
    at_once: int,
    hopeless: Callable[[Exception], bool] = lambda error: True,
) -> list[R | Exception]:
    """Do something for each item; return what came of it, or its error, in the same order.

    After an error that makes the rest `hopeless` nothing new is begun: that error then stands for the others too.
    """
    stopped: list[Exception] = []

    def guarded(item: T) -> R | Exception:
        if stopped:
            return stopped[0]
        try:
            return action(item)
        except Exception as e:
            if hopeless(e):
                stopped.append(e)
            return e

    if len(items) == 1:
        return [guarded(items[0])]
    with ThreadPoolExecutor(max(1, min(at_once, len(items)))) as pool:
        return list(pool.map(guarded, items))


def every(action: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """Do something for each item; return the results. Raises the first error, once nothing is under way any more."""
    results: list[R] = []
    for result in each(action, items, at_once):
        if isinstance(result, Exception):
            raise result
        results.append(result)
    return results
