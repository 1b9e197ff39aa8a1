"""What follows on a box when an attempt has ended: nothing, another attempt, or to wait for the box itself. Pure.

The rules for attempts that were lost, refused or failed are those of nodes (launcher.node.deciding); there is no
scheduler that could put the run elsewhere, so what would be requeued there is tried again here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from launcher.node import deciding
from launcher.node.deciding import Seen
from launcher.records import Attempt, Record
from launcher.records.model import KILLED

Decision = Literal["done", "failed", "again", "hold", "cancelled"]
STOPPED = 143  # what a shell gives for SIGTERM
TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h(3)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows. `hold` waits for the box, `failed` for a person; `code` is what the run ends with."""

    decision: Decision
    cause: str = ""
    why: str = ""
    code: int = 0


def decide(record: Record, number: int, seen: Seen, *, first: int, retries: int, restart: bool) -> Verdict:
    """Return what follows attempt `number` of a run, the last that ran here. Attempts before `first` were elsewhere.

    `restart` is the spec's: whether an attempt that was lost with its machine is followed by another one.
    """
    if other := deciding.taken(record, number):
        return Verdict(decision="failed", cause="superseded", why=other.why, code=TEMPORARY)
    last = record.attempts[-1]
    if last.state == "succeeded" and not last.superseded:
        return Verdict(decision="done")
    if seen.asked == "cancelled":
        return Verdict(decision="cancelled", cause="cancelled", why="it was cancelled", code=last.code or STOPPED)
    if seen.asked and (last.asked_to_stop or last.state != "failed"):
        return Verdict(decision="hold", cause="box", why=going(seen.asked), code=TEMPORARY)
    return lost_or_failed(record, here(record, first), seen, retries, restart)


def lost_or_failed(record: Record, part: Record, seen: Seen, retries: int, restart: bool) -> Verdict:
    last = record.attempts[-1]
    lost = last.asked_to_stop is not None and not last.superseded  # not by us: its engine was stopped, say
    if lost:
        found = deciding.onward(part, "lost", last.reason or "its container was stopped")
    else:
        found = deciding.decide(part, seen, token=None, retries=retries)
    lost = lost or found.kind == "lost" or (found.kind == "stuck" and deciding.is_lost(last, seen))
    if lost and not restart:
        why = f"{found.why}; `restart: false` keeps it from going on"
        return Verdict(decision="failed", cause="lost", why=why, code=KILLED)
    if found.decision in ("again", "requeue"):
        return Verdict(decision="again", cause=found.kind or "", why=found.why, code=found.code)
    why = found.why.replace(deciding.RESUBMIT, "`launcher resume` goes on from the last checkpoint")
    return Verdict(decision="failed", cause=found.kind or "", why=why, code=found.code)


def here(record: Record, first: int) -> Record:
    """Return the run as if it had begun here, with all attempts one submission: `retries` count for that."""
    mine = tuple(replace(one, scheduler=None) for one in record.attempts if one.attempt >= first)
    return replace(record, attempts=mine or record.attempts[-1:])


def going(asked: str) -> str:
    if asked == "notice":
        return "the box is about to be taken away: it goes on when the box is back, or elsewhere by `launcher resume`"
    return f"the box is shut down ({asked}): it goes on when the box is back, or elsewhere by `launcher resume`"


def standing(record: Record, first: int) -> Verdict | None:
    """Return what came of a run before this host side began, where that is the last word."""
    last = record.attempts[-1] if record.attempts else None
    if last is None:
        return None
    if record.state == "succeeded":
        return Verdict(decision="done", why="it has succeeded")
    told = last.parted or {}
    if last.attempt >= first and told.get("decision") in ("failed", "cancelled"):
        return Verdict(
            decision=told["decision"], cause=str(told.get("cause")), why=str(told.get("why")), code=last.code or 1
        )
    return None


def has_begun(attempt: Attempt) -> bool:
    """Tell whether anything is known of an attempt besides that it is queued."""
    return attempt.state != "queued" or attempt.claim is not None
