"""What happened, folded from a run's events: the record, as plain values. Pure; no store, no clock."""

from __future__ import annotations

from launcher.runner.command import signal_name
from launcher.runner.metrics import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    Event = Mapping[str, Any]

VERSION = 1
FIELDS = ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2))  # of 2026-01-31T12:00:00.123456Z, before the seconds
DAYS_TO_1970 = 719468  # from 1 March of year 0
SILENT_BEATS = 6  # so many heartbeats that did not come make a run "unknown"
COPIED = ("name", "lock", "image", "code", "command", "argv", "params", "data", "resources", "seed", "determinism")


def fold(
    job: Mapping[str, Any],
    events: Sequence[Event],
    summaries: Mapping[int, Summary],
    beats: Mapping[int, Mapping[str, Any]] | None = None,
    now: float | None = None,
    counting: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the record of a run. `now` (seconds since the epoch) tells a running attempt from a silent one.

    `counting` are the manifests that count, where the store was asked for them: no other checkpoint is named then.
    """
    attempts = [
        fold_attempt([event for event in events if event["attempt"] == number], (beats or {}).get(number), now)
        for number in sorted({event["attempt"] for event in events})
    ]
    last = attempts[-1] if attempts else {}
    for attempt in attempts[:-1]:
        if attempt["state"] in ("queued", "running", "unknown"):
            attempt.update(state="unknown", reason="it told no end, and a later attempt has begun")
    queued = first(events, "queued")
    started, ended = first_of(attempts, "started"), last.get("ended")
    return {
        "version": VERSION,
        "run": job["run"],
        **{name: job.get(name) for name in COPIED},
        "state": last.get("state", "queued"),
        "reason": last.get("reason"),
        "exit": {"code": last.get("code"), "signal": last.get("signal")},
        "who": queued.get("who"),
        "code_facts": queued.get("code"),
        "queued": queued.get("time"),
        "started": started,
        "ended": ended,
        "duration_s": between(started, ended),
        "runner": last.get("runner"),
        "host": last.get("host"),
        "frameworks": last.get("frameworks"),
        "scheduler": last.get("scheduler"),
        "attempts": attempts,
        "metrics": fold_metrics(summaries),
        "checkpoints": [shown(event) for event in checkpoints(events, counting)],
        "outputs": shown(latest(events, "outputs")) or None,
        "complete": last.get("complete", False),
        "missing": last.get("missing", []),
    }


def checkpoints(events: Sequence[Event], counting: Collection[str] | None) -> list[Event]:
    """Return the events of checkpoints that `keep` has not removed since, in the order in which they were finished.

    The newest is sent first, so the events themselves may come in another order.
    """
    forgotten = {event["key"] for event in events if event["kind"] == "forgotten"}
    found = [event for event in events if event["kind"] == "checkpoint" and event.get("key") not in forgotten]
    found.sort(key=lambda event: (event["attempt"], event.get("number", 0)))
    return [event for event in found if counting is None or event.get("key") in counting]


def fold_attempt(events: Sequence[Event], beat: Mapping[str, Any] | None, now: float | None) -> dict[str, Any]:
    """Return what one attempt came to."""
    started, ended, closed = (first(events, kind) for kind in ("started", "ended", "closed"))
    before = [event for event in events if event["kind"] == "signal" and event["seq"] < ended.get("seq", 1 << 62)]
    stop = next((event["signal"] for event in before if event["stops"]), None)
    begun, over = started.get("time"), ended.get("time")
    return {
        "attempt": events[0]["attempt"],
        **known_better(state_of(events, beat, now, stop), latest(events, "parted")),
        "queued": first(events, "queued").get("time"),
        "started": begun,
        "ended": over,
        "duration_s": between(begun, over),
        "code": ended.get("code"),
        "signal": ended.get("signal"),
        "asked_to_stop": stop,
        "runner": started.get("runner"),
        "host": first(events, "host").get("facts"),
        "frameworks": latest(events, "frameworks").get("facts"),
        "claim": shown(first(events, "claimed")) or None,
        "superseded": shown(first(events, "superseded")) or None,
        "restored": shown(first(events, "restored")) or None,
        "scheduler": first(events, "queued").get("scheduler"),
        "parted": shown(latest(events, "parted")) or None,
        "problems": [event["text"] for event in events if event["kind"] == "problem"],
        "last_sign": last_sign(events, beat),
        "closed": bool(closed) or ended.get("by") == "client",
        "complete": bool(closed) and not closed["missing"] and not closed.get("log_bytes_lost"),
        "missing": closed.get("missing", []),
        "log_bytes_lost": closed.get("log_bytes_lost", 0),
    }


def state_of(
    events: Sequence[Event], beat: Mapping[str, Any] | None, now: float | None, stop: str | None
) -> dict[str, Any]:
    """Return state and reason. Silence is no failure: a run that says nothing any more is `unknown`."""
    ended, superseded = first(events, "ended"), first(events, "superseded")
    if superseded:  # whatever its command said in the end: nothing of it counts since
        return {"state": "killed", "reason": f"superseded by attempt {superseded['by']} on {superseded['host']}"}
    if ended:
        return ended_state(ended, stop)
    if not first(events, "started"):
        return {"state": "queued", "reason": None}
    every_s = first(events, "started").get("heartbeat_s", 20.0)
    silent_s = None if now is None else now - seconds(last_sign(events, beat))
    if silent_s is not None and silent_s > SILENT_BEATS * every_s:
        return {"state": "unknown", "reason": f"no sign of life for {int(silent_s)} s"}
    return {"state": "running", "reason": None}


def known_better(state: dict[str, Any], parted: Event) -> dict[str, Any]:
    """Return state and reason, with the kernel's where it killed for want of memory: the node saw that, and not the
    runner."""
    wanted = parted.get("cause") == "memory" and state["state"] in ("failed", "killed")
    return {**state, "reason": parted.get("why")} if wanted else state


def ended_state(ended: Event, stop: str | None) -> dict[str, Any]:
    code, signal, reason = ended.get("code"), ended.get("signal"), ended.get("reason")
    if ended.get("by") == "client":  # the runner is dead, and who started it says what is known
        return {"state": "killed", "reason": reason}
    if ended.get("by") == "node":  # found unfit before the command started
        return {"state": "refused", "reason": f"node: {reason}"}
    if stop:
        how = f"by {signal}" if signal else f"with code {code}"
        return {"state": "killed", "reason": reason or f"asked to stop by {stop}, ended {how}"}
    if signal:
        return {"state": "killed", "reason": reason or f"ended by {signal}"}
    if code == 0:
        return {"state": "succeeded", "reason": None}
    return {"state": "failed", "reason": reason or f"the command ended with code {code}{shells_word(code)}"}


def has_succeeded(events: Sequence[Event]) -> bool:
    """Return whether an attempt came to a good end, and it counts."""
    ended, superseded = first(events, "ended"), first(events, "superseded")
    if not ended or superseded:
        return False
    stopped = any(event["kind"] == "signal" and event["stops"] and event["seq"] < ended["seq"] for event in events)
    return not stopped and ended_state(ended, None)["state"] == "succeeded"


def shells_word(code: int | None) -> str:
    """Say what a shell means by a code above 128. A command in one line has /bin/sh around it, so its own death by
    a signal (by SIGKILL for want of memory, say) comes as such a code; a program may also choose it by itself."""
    name = signal_name((code or 0) - 128)
    return f", which a shell gives for {name}" if name.startswith("SIG") else ""


def fold_metrics(summaries: Mapping[int, Summary]) -> dict[str, Any]:
    whole = Summary()
    for _, summary in sorted(summaries.items()):
        whole.merge(summary)
    return whole.as_json()


def shown(event: Event) -> dict[str, Any]:
    """Return an event's own facts."""
    return {name: value for name, value in event.items() if name not in ("kind", "seq")}


def first(events: Sequence[Event], kind: str) -> Event:
    return next((event for event in events if event["kind"] == kind), {})


def latest(events: Sequence[Event], kind: str) -> Event:
    return first(events[::-1], kind)


def first_of(attempts: Sequence[Mapping[str, Any]], name: str) -> Any:
    return next((attempt[name] for attempt in attempts if attempt[name]), None)


def last_sign(events: Sequence[Event], beat: Mapping[str, Any] | None) -> str:
    """Return the time of the last event or heartbeat."""
    return max([str(event["time"]) for event in events] + ([str(beat["time"])] if beat else []))


def seconds(stamp: str) -> float:
    """Return the seconds since the epoch that a time of ours means: by hand, since strptime loads half a library.

    Days are counted from 1 March of year 0, so that the leap day is the last of its year.
    """
    year, month, day, hour, minute = (int(stamp[at : at + width]) for at, width in FIELDS)
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1 - DAYS_TO_1970
    return days * 86400 + hour * 3600 + minute * 60 + float(stamp[17:].rstrip("Z"))


def between(start: str | None, end: str | None) -> float | None:
    return round(seconds(end) - seconds(start), 6) if start and end else None
