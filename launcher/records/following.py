"""Reading on: a run that has not ended, from where it was read to before, with as few requests as can be.

What reading on needs is a plain value (`Carry`): the events so far, the metrics summed up so far, and the last
heartbeat. Long runs have thousands of events and metric chunks, and none of them is read twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from launcher.errors import ObjectMissingError
from launcher.records.brief import ENDED, Brief, brief
from launcher.records.model import from_json
from launcher.runner import fold as folding
from launcher.runner.metrics import Summary
from launcher.store import keys
from launcher.store.objects import Store

Carry = dict[str, Any]
LATE = 16  # so many events before the last one are looked at again: they may come in another order
MANY = ("checkpoint", "forgotten", "problem", "signal")  # kinds of which a list needs only the newest


def begin(store: Store, run: str) -> Carry | None:
    """Return the carry of a run that nothing was read of; None when there is no such run, or not yet."""
    try:
        job = json.loads(store.get(keys.job(run)))
    except ObjectMissingError:
        return None
    same = {name: job.get(name) for name in ("name", "seed")}
    job = {"run": job["run"], **same, "params": job.get("params") or {}}
    return {"job": job, "events": [], "seen": [0, 0], "beat": None, "sums": {}, "chunks": {}}


def probes(run: str, carry: Carry, state: str) -> list[str]:
    """Return keys that tell, when they are read, whether anything is new: the next event, the pulse, a record."""
    attempt, seq = carry["seen"]
    if not attempt:
        return [keys.event(run, 1, 0), keys.event(run, 1, 1)]
    found = [keys.event(run, attempt, seq + 1)]
    if state in ENDED:
        return [*found, keys.record(run), keys.event(run, attempt + 1, 1)]
    return [*found, keys.event(run, attempt, 0) if state == "queued" else keys.heartbeat(run, attempt)]


def read_on(store: Store, run: str, carry: Carry, told: Mapping[str, bytes | None] | None = None) -> Carry:
    """Return the carry with all that has come since. `told` is what probes said, if they were asked.

    Raises a LauncherError; KeyError, TypeError or ValueError for what no run of ours would hold.
    """
    attempt, seq = carry["seen"]
    if told is None or told.get(keys.event(run, attempt, seq + 1)) or not attempt:
        carry = with_events(store, run, carry)
        attempt, seq = carry["seen"]
    kinds = {event["kind"] for event in carry["events"] if event["attempt"] == attempt}
    if "started" in kinds:
        if "ended" not in kinds:
            carry = {**carry, "beat": pulse(store, keys.heartbeat(run, attempt), told or {})}
        for number in {event["attempt"] for event in carry["events"]}:
            carry = with_metrics(store, run, carry, number)
    return {**carry, "events": thinned(carry["events"])}


def with_events(store: Store, run: str, carry: Carry) -> Carry:
    have = {place(event) for event in carry["events"]}
    attempt, seq = carry["seen"]
    after = keys.event(run, attempt, seq - LATE) if seq > LATE else keys.events(run, attempt).rstrip("/")
    listed = [entry.key for entry in store.list(keys.events(run), after=after if attempt else None)]
    new = [json.loads(data) for _, data in in_order(store, (key for key in listed if keys.numbers(key) not in have))]
    events = sorted([*carry["events"], *new], key=place)
    return {**carry, "events": events, "seen": list(place(events[-1])) if events else [0, 0]}


def in_order(store: Store, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
    """Read objects, many at once; return those that are there, sorted by key."""
    wanted = list(wanted)
    return sorted((key, data) for key, data in store.get_many(wanted) if data is not None) if wanted else []


def pulse(store: Store, key: str, told: Mapping[str, bytes | None]) -> Any:
    """Return the last heartbeat, None when there was none yet."""
    try:
        data = told[key] if key in told else store.get(key)
    except ObjectMissingError:
        return None
    return json.loads(data) if data else None


def with_metrics(store: Store, run: str, carry: Carry, attempt: int) -> Carry:
    """Sum up the metric chunks that are new: in order, up to the first one that isn't there yet."""
    closed: Mapping[str, Any] = next(
        (e for e in carry["events"] if e["kind"] == "closed" and e["attempt"] == attempt), {}
    )
    if "metrics" in closed:  # the attempt has summed them up itself
        return {**carry, "sums": {**carry["sums"], str(attempt): closed["metrics"]}}
    number, told = carry["chunks"].get(str(attempt), 0), carry["sums"].get(str(attempt), {})
    if carry["beat"] and attempt == carry["seen"][0] and carry["beat"].get("rows") == told.get("rows", 0):
        return carry  # there can't be more
    summary = Summary(told.get("names"), told.get("rows", 0), told.get("bad", 0))
    after = keys.metric(run, attempt, number - 1) if number else None
    listed = [entry.key for entry in store.list(keys.metrics(run, attempt), after=after)]
    for key, data in in_order(store, listed):
        if keys.numbers(key)[1] == number:
            summary.add_lines(data.splitlines())
            number += 1
    chunks, sums = {**carry["chunks"], str(attempt): number}, {**carry["sums"], str(attempt): summary.as_json()}
    return {**carry, "chunks": chunks, "sums": sums}


def place(event: Mapping[str, Any]) -> tuple[int, int]:
    return event["attempt"], event["seq"]


def thinned(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what a list needs no more: of kinds that come often, all but those near the end."""
    near = len(events) - 2 * LATE
    return [event for number, event in enumerate(events) if number >= near or event["kind"] not in MANY]


def folded(carry: Carry, now: float) -> Brief:
    """Return what a list tells of a run that was read so far, at a moment in Unix time."""
    sums = {int(number): Summary(told["names"], told["rows"], told["bad"]) for number, told in carry["sums"].items()}
    beats = {carry["seen"][0]: carry["beat"]} if carry["beat"] else {}
    return brief(from_json(folding.fold(carry["job"], carry["events"], sums, beats, now)))
