"""What comes after an attempt has ended: nothing, another attempt here, a requeue, or a person. Pure.

An attempt that lost its node, its container or its time is not its command's failure: it goes on, as long as that leads
anywhere. One whose command failed is tried again only as often as the spec says.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.node.told import TEMPORARY, Outcome
from launcher.records import Attempt, Record

LIMITS = {"time limit": 3, "lost": 5, "refused": 5}  # so many in a row without a new checkpoint lead nowhere
RESUBMIT = "`launcher submit` goes on from the last checkpoint"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the host side saw of an attempt that is over.

    `asked` is why it was asked to stop: "time limit", "preempted", or a signal's name. `memory` is how often the kernel
    has killed for want of memory meanwhile; None where that can't be known. `fallen` tells of another node of the
    attempt whose command failed. `tries` counts the attempts that this host side has made, this one included.
    """

    asked: str | None = None
    memory: int | None = None
    fallen: str | None = None
    tries: int = 1


def decide(record: Record, seen: Seen, *, token: str | None, retries: int = 0) -> Outcome:
    """Return what comes of a run whose last attempt has just ended here. `token` names the submission; None: of those
    whose attempts have none."""
    last = record.attempts[-1]
    if last.superseded:
        return outcome(record, "hold", "superseded", last.reason or "another attempt has the run")
    if last.state == "succeeded":
        return Outcome(decision="done", run=record.run, attempt=last.attempt)
    if seen.memory and was_killed(last):
        return failed(record, "memory", "it needed more memory than it was given, and the kernel killed it", token, 0)
    if seen.fallen and seen.asked is None:
        return failed(record, "command", seen.fallen, token, retries)
    if seen.asked and (last.asked_to_stop or last.state != "failed"):
        return made_way(record, seen.asked)
    if last.state == "refused":
        return onward(record, "refused", last.reason or "the node can't serve the job")
    if is_lost(last, seen):
        if seen.tries == 1:
            return outcome(record, "again", "lost", last.reason or "its container is gone")
        return onward(record, "lost", last.reason or "its container is gone")
    return failed(record, "command", last.reason or "the command failed", token, retries)


def taken(record: Record, number: int) -> Outcome | None:
    """Return what follows where a later attempt than ours is there: nothing from here. It is somebody else's, on
    another node perhaps, while this one was cut off; to write a word into it would end it."""
    later = record.attempts[-1].attempt
    if later == number:
        return None
    why = f"attempt {later} has the run"
    return Outcome(decision="hold", kind="superseded", why=why, code=TEMPORARY, run=record.run, attempt=number)


def outcome(record: Record, decision: str, kind: str, why: str, code: int = TEMPORARY) -> Outcome:
    attempt = record.attempts[-1].attempt
    return Outcome(decision=decision, kind=kind, why=why, code=code, run=record.run, attempt=attempt)  # type: ignore[arg-type]


def made_way(record: Record, asked: str) -> Outcome:
    """Requeue what made way for its time limit or for others. On SIGTERM Slurm acts itself: to requeue what
    somebody cancels would bring it back."""
    if asked in ("time limit", "preempted"):
        return onward(record, asked, {"time limit": "its time limit was near"}.get(asked, "it was asked to make way"))
    return outcome(record, "hold", "asked", f"asked to stop by {asked}: Slurm cancels it, or requeues it itself")


def onward(record: Record, kind: str, why: str) -> Outcome:
    """Requeue, unless that was tried in vain too often."""
    many, most = in_vain(record, kind), LIMITS.get(kind)
    if most is None or many < most:
        return outcome(record, "requeue", kind, why)
    if kind == "time limit":
        hint = "ask for more under `resources: {time: ...}`, or save checkpoints more often"
        says = f"{many} attempts in a row reached their time limit without a new checkpoint: {hint}"
        return outcome(record, "failed", "stuck", says, 1)
    return outcome(record, "hold", "stuck", f"{why}; {many} attempts in a row came to nothing. {RESUBMIT}")


def in_vain(record: Record, kind: str) -> int:
    """Count the attempts that ended for this reason, from the last one back to one that made a checkpoint.

    Those that made way for others say nothing, neither for nor against.
    """
    fruitful = {told["attempt"] for told in record.checkpoints}
    many = 0
    for attempt in reversed(record.attempts):
        if attempt.attempt in fruitful:
            break
        many += attempt is record.attempts[-1] or kind_of(attempt) == kind
    return many


def kind_of(attempt: Attempt) -> str:
    """Return why an attempt ended; one of which nothing was told was lost with its host side."""
    return str((attempt.parted or {}).get("cause") or ("lost" if attempt.code is None else "command"))


def was_killed(last: Attempt) -> bool:
    """Tell whether SIGKILL ended the command, a shell around it told of that, or the runner died itself."""
    return last.code is None or last.by_sigkill


def is_lost(last: Attempt, seen: Seen) -> bool:
    """Tell whether an attempt was ended from outside: its runner could not say how, or its command got a SIGKILL.

    Where it can't be known whether that was for want of memory, it is taken for that, the most frequent reason.
    """
    return last.code is None or (was_killed(last) and seen.memory == 0 and not last.asked_to_stop)


def failed(record: Record, kind: str, why: str, token: str | None, retries: int) -> Outcome:
    """Try again here while the spec's `retries` last. They count anew for each submission."""
    before = [one for one in record.attempts[:-1] if (one.scheduler or {}).get("token") == token]
    failures = 1 + sum((one.parted or {}).get("cause") == "command" for one in before)
    if failures <= retries:
        return outcome(record, "again", kind, f"{why}; trying again, {failures} of {retries}")
    return outcome(record, "failed", kind, why, record.attempts[-1].code or 1)


def standing(record: Record, token: str, retries: int) -> Outcome | None:
    """Return what came of a run before this task began, where that is the last word for this submission."""
    last = record.attempts[-1] if record.attempts else None
    if last is None:
        return None
    if record.state == "succeeded":
        return Outcome(decision="done", why="it has succeeded already", run=record.run, attempt=last.attempt)
    parted = last.parted or {}
    if (last.scheduler or {}).get("token") == token and parted.get("decision") == "failed":
        return outcome(record, "failed", str(parted.get("cause")), str(parted.get("why")), last.code or 1)
    return None
