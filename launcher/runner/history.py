"""Reading back what a run's attempts have written: events, metrics, signs of life."""

from __future__ import annotations

import json

from launcher.runner.metrics import Summary
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from launcher.store.objects import Store

    Event = dict[str, Any]


class History:
    """A run's past: its events in order, metrics by attempt, and the last heartbeat of each attempt."""

    def __init__(self, events: list[Event], summaries: dict[int, Summary], beats: dict[int, dict[str, Any]]) -> None:
        self.events, self.summaries, self.beats = events, summaries, beats


def read(store: Store, run: str, own: tuple[int, list[Event]] | None = None) -> History:
    """Read a run's past. `own` are the events of an attempt that the caller has at hand. Raises a LauncherError."""
    events = list(own[1]) if own else []
    places = [(entry.key, *keys.numbers(entry.key)) for entry in store.list(keys.events(run))]
    wanted = [key for key, attempt, seq in places if own is None or attempt != own[0] or seq == 0]
    events += [json.loads(data) for _, data in in_order(store, wanted)]
    events.sort(key=lambda event: (event["attempt"], event["seq"]))
    return History(events, summaries(store, run, events), heartbeats(store, run))


def in_order(store: Store, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
    """Read objects, many at once; return those that are there, by key."""
    return sorted((key, data) for key, data in store.get_many(wanted) if data is not None)


def summaries(store: Store, run: str, events: list[Event]) -> dict[int, Summary]:
    """Sum the metrics up by attempt: as the attempt said itself, or from its chunks where it came to no end."""
    found = {}
    for event in events:
        if event["kind"] == "closed" and "metrics" in event:
            told = event["metrics"]
            found[event["attempt"]] = Summary(told["names"], told["rows"], told["bad"])
    for entry in store.list(keys.metrics(run)):
        attempt, seq = keys.numbers(entry.key)
        if seq == 0 and attempt not in found:
            found[attempt] = from_chunks(store, run, attempt)
    return found


def from_chunks(store: Store, run: str, attempt: int) -> Summary:
    summary = Summary()
    for _, data in in_order(store, (entry.key for entry in store.list(keys.metrics(run, attempt)))):
        summary.add_lines(data.splitlines())
    return summary


def heartbeats(store: Store, run: str) -> dict[int, dict[str, Any]]:
    prefix = keys.run(run) + "heartbeats/"
    beats = in_order(store, (entry.key for entry in store.list(prefix)))
    return {int(key[len(prefix) :].partition(".")[0]): json.loads(data) for key, data in beats}
