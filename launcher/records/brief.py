"""What a list tells of a run: a small value that the index keeps, made from its record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.records.model import Record

ENDED = ("succeeded", "failed", "killed", "refused")
GOING = ("queued", "running")
FIGURES = ("last", "last_step", "min", "min_step", "max", "max_step", "count")


@dataclass(frozen=True, kw_only=True)
class Brief:
    """A run in a list. Times are RFC 3339 in UTC; `metrics` holds by name the FIGURES of `Record.metrics`, in order.

    `attempt` is the number of the last one (0: none was queued), `step` the largest step of any metric,
    `heartbeat_s` how often a running one gives a sign of life.
    """

    run: str
    name: str | None = None
    state: str
    reason: str | None = None
    who: str | None = None
    queued: str | None = None
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    last_sign: str | None = None
    attempt: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    exit: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    host: str | None = None
    complete: bool = False
    closed: bool = False  # nothing more will come from the last attempt

    @property
    def when(self) -> str:
        """The earliest time that is known of it, to sort by."""
        return self.queued or self.started or ""

    @property
    def step(self) -> float | None:
        steps = [self.figure(name, "last_step") for name in self.metrics]
        return max((step for step in steps if isinstance(step, (int, float))), default=None)

    def figure(self, name: str, which: str) -> Any:
        """Return a metric's last, min, max, count or a step of these; None where the run has no such metric."""
        told = self.metrics.get(name)
        return told[FIGURES.index(which)] if told else None


def brief(record: Record) -> Brief:
    """Return what a list tells of a record."""
    last = record.attempts[-1] if record.attempts else None
    same = {name: getattr(record, name) for name in SAME}
    return Brief(
        **same,
        last_sign=last.last_sign if last else record.queued,
        attempt=last.attempt if last else 0,
        metrics={name: [told.get(key) for key in FIGURES] for name, told in record.metrics.get("names", {}).items()},
        host=host(record.host),
        closed=bool(last and last.closed),
    )


SAME = (
    "run",
    "name",
    "state",
    "reason",
    "who",
    "queued",
    "started",
    "ended",
    "duration_s",
    "params",
    "seed",
    "exit",
    "complete",
)


def host(facts: Mapping[str, Any] | None) -> str | None:
    """Say in a few words what a run ran on: its node where that is told, and its processor or GPUs."""
    if not facts:
        return None
    gpus = facts.get("gpus")
    models = [str(gpu.get("model")) for gpu in gpus] if isinstance(gpus, list) else []
    counted = ", ".join(f"{models.count(model)} x {model}" for model in dict.fromkeys(models))
    return ": ".join(str(part) for part in (facts.get("node"), counted or facts.get("cpu")) if part) or None


def to_text(told: Brief) -> str:
    """Return JSON on one line, without what is as it is by itself."""
    said = ((name, value) for name, value in vars(told).items() if value is not None and value is not False)
    return json.dumps({name: value for name, value in said if value != {}})


def from_text(text: str) -> Brief:
    """Read what `to_text` wrote. Raises ValueError, TypeError or AttributeError for anything else."""
    return Brief(**json.loads(text))
