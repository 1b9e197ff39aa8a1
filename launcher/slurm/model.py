"""The nouns of submitting: what somebody meant to submit, what Slurm said to it, and what it says of a task now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

VERSION = 1
NAME = "launcher-"  # how the names of our jobs in Slurm begin; the token follows

State = Literal["pending", "running", "completing", "gone", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An intent: written before sbatch is called, by conditional create, and never changed.

    `groups[i]` are the points of task i. Of a sweep that is throttled (`max_parallel`) at most `throttle` tasks of this
    submission run at once, and it begins when the one with the token `after` is over: see `launcher.slurm.splitting`.
    """

    version: int = VERSION
    number: int
    token: str
    target: str  # the profile's name
    site: str  # which shared folder of which cluster: names of profiles differ between machines
    groups: tuple[tuple[int, ...], ...]
    lane: int | None = None
    throttle: int | None = None
    after: str | None = None
    when: str = ""
    who: str | None = None

    @property
    def job_name(self) -> str:
        return NAME + self.token

    @property
    def points(self) -> tuple[int, ...]:
        return tuple(point for group in self.groups for point in group)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of an intent; written once. Exactly one of the four is there.

    `job` is Slurm's id of the array, or of the single job. `refused` are Slurm's words: it was surely not submitted,
    and never will be. `halves` are the tokens of two submissions that take its place, as it was too big for a limit.
    `dropped` says why nobody wants it any more.
    """

    version: int = VERSION
    token: str
    job: str | None = None
    refused: str | None = None
    halves: tuple[str, ...] = ()
    dropped: str | None = None
    when: str = ""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What Slurm says of a point's task. `gone` means that Slurm answered and surely has it no more.

    `slurm_state` is Slurm's own word (squeue(1), JOB STATE CODES), `reason` says in plain words why it waits.
    """

    state: State
    reason: str | None = None
    slurm_state: str | None = None
    job: str | None = None  # as Slurm's commands take it: 1234_7
    node: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt to place one submission went, where sbatch is.

    | kind | means |
    | --- | --- |
    | job | it is in Slurm |
    | limit | it does not fit now, and was surely not submitted |
    | too_big | it can't fit as it is |
    | refused | Slurm never takes it |
    | dropped | nobody wants it, and it was not submitted |
    | missing | nobody has brought its script there |
    | unknown | nobody can tell |
    """

    kind: Literal["job", "limit", "too_big", "refused", "dropped", "missing", "unknown"]
    token: str
    job: str | None = None
    says: str | None = None
    found: bool = False  # it was there already: somebody submitted it, and did not live to tell


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a submit, or the continuing of one, came to."""

    placed: tuple[Submission, ...] = ()  # taken by Slurm now
    found: tuple[Submission, ...] = ()  # taken before, by somebody who did not live to tell: repaired
    waiting: tuple[Submission, ...] = ()  # for the site's limit
    unknown: tuple[tuple[Submission, str], ...] = ()  # and why
    refused: tuple[tuple[Submission, str], ...] = ()
    dropped: tuple[Submission, ...] = ()  # never submitted, and cancelled meanwhile
    jobs: Mapping[str, str] = field(default_factory=dict)  # token -> Slurm's id
    limit: str | None = None  # Slurm's words

    def points(self, of: tuple[Submission, ...]) -> int:
        return sum(len(group) for one in of for group in one.groups)


def to_json(value: Submission | Answer | Outcome) -> dict[str, Any]:
    return asdict(value)


def submission_from(told: Mapping[str, Any]) -> Submission:
    """Read an intent back; what a newer launcher has added is passed over. Raises KeyError or TypeError."""
    known = {one.name for one in fields(Submission)}
    values = {name: value for name, value in told.items() if name in known}
    return Submission(**values | {"groups": tuple(tuple(group) for group in told["groups"])})


def answer_from(told: Mapping[str, Any]) -> Answer:
    """Read an answer back. Raises KeyError or TypeError."""
    known = {one.name for one in fields(Answer)}
    values = {name: value for name, value in told.items() if name in known}
    return Answer(**values | {"halves": tuple(told.get("halves") or ())})
