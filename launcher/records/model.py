"""The nouns of a record: what a run was, and what came of it, as frozen values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["queued", "running", "succeeded", "failed", "killed", "refused", "unknown"]
"""`unknown`: no sign of life for long, and no word of an end. Nobody can tell, so nobody says `failed`.
`refused`: the node can't serve the job, so the command was never started."""
KILLED = 137  # what a shell gives for SIGKILL


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt. Times are RFC 3339 in UTC; `signal` is the one that ended the command."""

    attempt: int
    state: State
    reason: str | None = None
    queued: str | None = None
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    code: int | None = None
    signal: str | None = None
    asked_to_stop: str | None = None
    runner: str | None = None
    host: Mapping[str, Any] | None = None
    frameworks: Mapping[str, Any] | None = None  # what a strict run's process imported: versions, world_size
    claim: Mapping[str, Any] | None = None  # when it took the run over, by which epoch, and for whom it waited
    superseded: Mapping[str, Any] | None = None  # by which attempt, on which host, since when
    restored: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None  # under which of its jobs it ran: kind, job, node, partition ...
    parted: Mapping[str, Any] | None = None  # what the node's host side decided when it was over: decision, cause, why
    problems: tuple[str, ...] = ()
    last_sign: str | None = None
    closed: bool = False  # nothing more will come from it
    complete: bool = False
    missing: tuple[str, ...] = ()
    log_bytes_lost: int = 0

    @property
    def by_sigkill(self) -> bool:
        """Whether SIGKILL ended the command, or a shell around it told of that."""
        return self.signal == "SIGKILL" or self.code == KILLED


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run. `lock`, `image`, `code` and the values of `data` are sha256; `code_facts` says commit, patch and dirt.

    `complete` is true when the run has ended and all of it is in the store; `missing` says what is not.
    """

    version: int = 1
    run: str
    name: str | None = None
    lock: str | None = None
    image: str | None = None
    code: str | None = None
    code_facts: Mapping[str, Any] | None = None
    command: str | tuple[str, ...] | None = None
    argv: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    determinism: str | None = None
    state: State
    reason: str | None = None
    exit: Mapping[str, Any] = field(default_factory=dict)  # code, signal
    who: str | None = None
    queued: str | None = None
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    runner: str | None = None
    host: Mapping[str, Any] | None = None
    frameworks: Mapping[str, Any] | None = None  # what a strict run's process imported: versions, world_size
    scheduler: Mapping[str, Any] | None = None  # of the last attempt
    attempts: tuple[Attempt, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[Mapping[str, Any], ...] = ()
    outputs: Mapping[str, Any] | None = None
    complete: bool = False
    missing: tuple[str, ...] = ()

    @property
    def when(self) -> str:
        """The earliest time that is known of it, to sort by."""
        return self.queued or self.started or ""


def from_json(told: Mapping[str, Any]) -> Record:
    """Make a record of what `fold` returns or `record.json` holds. Keys that this version doesn't know are left out."""
    attempts = tuple(known(Attempt, attempt) for attempt in told.get("attempts", ()))
    found: Record = known(Record, {**told, "attempts": attempts})
    return found


def known(kind: Any, told: Mapping[str, Any]) -> Any:
    """Make a value of the keys that it knows; None means the default, a list becomes a tuple."""
    names = {field.name for field in dataclasses.fields(kind)}
    values = {name: value for name, value in told.items() if name in names and value is not None}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
