"""Where each point of a sweep stands: judged from its run's own events, with the scheduler as a second opinion. Pure.

| state | means |
| --- | --- |
| succeeded, failed, killed, refused | the run's own events say so, and nothing is on its way that would change it |
| refused | also: the scheduler refused its job, so that nothing of it is there |
| running | the run says so, or the scheduler says that its task runs |
| queued | it is in the scheduler's queue, for the first time or again |
| waiting | it has not come to the scheduler yet: the site's limit, or a submit that was cut short |
| cancelled | somebody said that it is not wanted any more, before it had ended by itself |
| lost | it was submitted, the scheduler surely has it no more, and the store shows no end |
| unknown | it was submitted, and nobody answers who could tell more |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from launcher.records.brief import Brief

if TYPE_CHECKING:
    from launcher.job.sweeps import Plan

STATES = (
    "succeeded", "running", "queued", "waiting", "failed", "killed", "refused", "lost", "cancelled", "unknown",
)  # fmt: skip
BAD = ("failed", "killed", "refused", "lost")
OVER = ("succeeded", *BAD, "cancelled")
OWN = ("succeeded", "failed", "refused")  # what a run came to by itself, whatever somebody says of it later
IN_QUEUE = ("pending", "running", "completing")


class Sight(Protocol):
    """What a scheduler says of a point: pending, running, completing, gone (surely not there), or unknown."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Where one point stands. `run` is the run that decides it: its own, or `by` another sweep that had the same point.

    `live` says whether the scheduler has a task for it; None where nobody knows. `unwanted` are those that somebody has
    cancelled, whatever came of them. `brief` is what a list tells of its run, made up from the plan as long as that has
    not begun.
    """

    index: int
    run: str
    state: str
    reason: str | None = None
    live: bool | None = False
    begun: bool = False
    unwanted: bool = False
    by: str | None = None
    brief: Brief


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a sweep stands; `points` are in the order of the plan."""

    plan: Plan
    points: tuple[Stand, ...]
    answered: bool = True  # whether the scheduler did

    @property
    def counts(self) -> dict[str, int]:
        """How many points are in each state that there is one in."""
        counted = Counter(point.state for point in self.points)
        return {state: counted[state] for state in STATES if counted[state]}

    def of(self, *states: str) -> tuple[Stand, ...]:
        return tuple(point for point in self.points if point.state in states)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return all(point.state in OVER and point.live is not True for point in self.points)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was found out of a sweep: of the scheduler first, of the store then, so that `gone` is the last word.

    `seen` is None where the scheduler was not asked or did not answer; `sent` are points that some submission has,
    `held` those of submissions that have not come to the scheduler, as far as anybody knows; `declined` are those that
    it refused when they were last submitted, with its words; `done` maps digests of points to the runs that finished
    them.
    """

    briefs: Mapping[str, Brief] = field(default_factory=dict)
    seen: Mapping[int, Sight] | None = None
    sent: Collection[int] = ()
    held: Collection[int] = ()
    declined: Mapping[int, str] = field(default_factory=dict)
    cancelled: Collection[int] = ()
    done: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Brief] = field(default_factory=dict)  # of runs of other sweeps that `done` names


def standing(plan: Plan, known: Known) -> Standing:
    """Say where each point stands."""
    found = tuple(stand(plan, known, index, run) for index, run in enumerate(plan.runs))
    return Standing(plan=plan, points=found, answered=known.seen is not None)


def stand(plan: Plan, known: Known, index: int, run: str) -> Stand:
    told = known.briefs.get(run)
    live, sight = in_queue(known, index)
    done = known.done.get(plan.digests[index])
    if done is not None and done != run and (told is None or told.state != "succeeded"):
        brief = known.others.get(done) or made_up(plan, index, done, "succeeded", None)
        return Stand(index=index, run=done, state="succeeded", live=live, begun=True, by=done, brief=brief)
    held = index in known.held and live is None
    state, reason = judged(told, sight, index in known.sent, held, index in known.cancelled)
    if state == "waiting" and live is False and index in known.declined:
        state, reason = "refused", f"the scheduler refused its job: {known.declined[index]}"
    brief = made_up(plan, index, run, state, reason) if told is None else told
    brief = brief if brief.state == state else replace(brief, state=state, reason=reason)
    if state == "succeeded" and sight is not None and sight.state == "pending":
        live = False  # a controller that was killed may hold a task for ever that has done its work
    return Stand(
        index=index,
        run=run,
        state=state,
        reason=reason,
        live=live,
        begun=told is not None,
        unwanted=index in known.cancelled,
        brief=brief,
    )


def in_queue(known: Known, index: int) -> tuple[bool | None, Sight | None]:
    """Return whether the scheduler has a task for a point, and what it says; None where nobody knows."""
    if index not in known.sent:
        return False, None
    sight = known.seen.get(index) if known.seen is not None else None
    if sight is None or sight.state == "unknown" or (index in known.held and sight.state == "gone"):
        return None, None if index in known.held else sight
    return sight.state in IN_QUEUE, sight


def judged(told: Brief | None, sight: Sight | None, sent: bool, held: bool, cancelled: bool) -> tuple[str, str | None]:
    """Return state and reason of a point. The run's own word counts; the scheduler says what the run can't."""
    if told is not None and told.state == "succeeded":
        return "succeeded", None
    word = sight.state if sight else "unknown"
    if held and (told is None or told.state in BAD):
        state, reason = "waiting", None if told is None else f"to run again, after it {ending(told)}"
    else:
        state, reason = unbegun(word, sight, sent) if told is None else begun(told, word, sight, sent)
    if cancelled and state not in OWN and (state in (*BAD, "waiting") or word == "gone"):
        return "cancelled", reason if state in BAD else None
    return state, reason


def unbegun(word: str, sight: Sight | None, sent: bool) -> tuple[str, str | None]:
    """Judge a point whose run the store knows nothing of."""
    if not sent:
        return "waiting", None
    if word == "pending":
        return "queued", sight.reason if sight else None
    if word in ("running", "completing"):
        return "running", "its task has begun, and prepares"
    if word == "gone":
        return "lost", "the scheduler has it no more, and it never began"
    return "unknown", (sight.reason if sight else None) or "it was submitted, and the scheduler does not answer"


def begun(told: Brief, word: str, sight: Sight | None, sent: bool) -> tuple[str, str | None]:
    """Judge a point by its run, which has not succeeded."""
    if told.state in ("failed", "killed", "refused"):
        if word == "pending":
            return "queued", f"again, after it {ending(told)}"
        if word in ("running", "completing") and told.state == "killed":
            return "running", f"its task is not over, after it was killed: {told.reason}"
        if word == "unknown" and sent and told.state == "killed":
            return (
                "unknown",
                f"its last attempt was killed ({told.reason}), and the scheduler does not say what follows",
            )
        return told.state, told.reason
    if word == "pending":
        return "queued", "again" if sight is None or not sight.reason else f"again; {sight.reason}"
    if word in ("running", "completing"):
        silent = f"its task runs; {told.reason}" if told.state == "unknown" else None
        return "running", silent
    if word == "gone":
        return "lost", told.reason or f"the scheduler has it no more, and its run was {told.state}"
    return told.state, told.reason


def ending(told: Brief) -> str:
    """Say how a run ended, after "it"."""
    return f"{'' if told.state == 'failed' else 'was '}{told.state}: {told.reason}"


def made_up(plan: Plan, index: int, run: str, state: str, reason: str | None) -> Brief:
    """Return what a list tells of a run that has not begun."""
    params = {**plan.shared.params, **plan.params(index)}
    seed = plan.seeds[index] if plan.seeds else plan.shared.seed
    return Brief(run=run, name=plan.name, state=state, reason=reason, who=plan.who, params=params, seed=seed)


def to_do(found: Standing, *, cancelled: bool = False) -> tuple[int, ...]:
    """Return the points that submitting again sends: what is missing, failed or was lost, and is wanted; with
    `cancelled` what is not wanted any more, too.

    Never one that the scheduler has, or may have: not even one that failed, while its task isn't surely over.
    """
    wanted = {*BAD, "waiting", *(["cancelled"] if cancelled else [])}
    sent = (point for point in found.points if cancelled or not point.unwanted)
    return tuple(point.index for point in sent if point.state in wanted and point.live is False)


def failed(found: Standing) -> tuple[int, ...]:
    """Return the points that `retry --failed` sends: those that came to a bad end, and those that were lost."""
    return tuple(point.index for point in found.points if point.state in BAD and point.live is False)
