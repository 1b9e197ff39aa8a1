"""The logs of a sweep: the lines of all its runs by their times, each after the number of its point."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.cli.sweeps import Named
    from launcher.job.sweeps import Plan
    from launcher.records.logs import Line, Reader
    from launcher.store.objects import Store

READERS = 16
POLL_S, POLL_FOLDER_S = 5.0, 1.0
Tagged = tuple[int, "Line"]


def of_point(store: Store, word: Named | None, point: int | None) -> str | None:
    """Return the run of a sweep's point that was asked for, or the run that a word names. Raises UsageError."""
    from launcher.records import sweeps

    if word is None or (word.is_sweep and point is None):
        if point is not None:
            raise UsageError(f"--point {point}: of which sweep?", hint="name it before")
        return None
    if point is None or not word.sweep:
        return word.run
    plan = sweeps.plan(store, word.sweep)
    if point >= len(plan.runs):
        raise UsageError(f"--point {point}: {plan.sweep} has points from 0 to {len(plan.runs) - 1}")
    return plan.runs[point]


def sweep_lines(
    store: Store,
    place: str | None,
    sweep: str,
    follow: bool,
    attempt: int | None,
    streams: Collection[str],
    timestamps: bool,
    as_json: bool,
) -> Iterator[bytes]:
    """Yield the lines of a sweep as they are printed: those that are there, then with `follow` those that come."""
    from launcher.cli.sweeps import viewed
    from launcher.records.logs import Reader, joined
    from launcher.records.standing import OVER

    readers: dict[int, Reader] = {}
    plan: Plan | None = None
    done = set[int]()  # they say no more, and what they said is read
    show = as_object if as_json else as_text(timestamps)
    while True:
        with viewed(store, place, sweep, plan=plan) as view:
            plan = view.plan
            begun = {point.index: point for point in view.standing.points if point.begun and point.index not in done}
            over = view.standing.over
        for index, point in begun.items():
            readers.setdefault(index, Reader(store, point.run, attempt))
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(lambda index: tagged(index, joined(readers[index].new_lines())), begun)
            merged = heapq.merge(*found, key=lambda item: item[1].time)
            yield from (show(index, line) for index, line in merged if not streams or line.stream in streams)
        done |= {index for index, point in begun.items() if point.state in OVER and point.live is False}
        if not follow or over:
            return
        time.sleep(POLL_S if store.folder is None else POLL_FOLDER_S)


def tagged(index: int, lines: Iterable[Line]) -> list[Tagged]:
    return [(index, line) for line in lines]


def as_text(timestamps: bool) -> Callable[[int, Line], bytes]:
    from launcher.records.logs import as_shown

    def text(index: int, line: Line) -> bytes:
        head = f"{index:05d} | " + (f"{line.time} " if timestamps else "")
        return head.encode() + as_shown(line.data) + b"\n"

    return text


def as_object(index: int, line: Line) -> bytes:
    told = {"point": index, "attempt": line.attempt, "time": line.time, "stream": line.stream}
    return json.dumps({**told, "text": line.data.decode(errors="replace")}).encode() + b"\n"
