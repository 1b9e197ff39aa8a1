"""What Slurm says of a sweep's points, as a second opinion beside the store: never a guess, and no answer is `unknown`.

submitit's own states are not used: they are kept for ten minutes, and need accounting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.errors import LauncherError
from launcher.slurm import queue
from launcher.slurm.door import Door
from launcher.slurm.ledger import Ledger
from launcher.slurm.model import NAME, Seen, State, Submission
from launcher.slurm.places import Desk
from launcher.slurm.reasons import plain

# squeue(1), JOB STATE CODES. What is in neither list is over; what accounting calls over may have been requeued since.
PENDING = {"CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"POWER_UP_NODE", "RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
}
FINAL = {"COMPLETED"}  # the one end that nothing requeues


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a sweep at one site, or at all of them.

    `seen` is None where nobody answered. `sent` are the points that are, or may be, in Slurm; `waiting` those that are
    meant to be submitted and surely have not been. `notes` are for people.
    """

    seen: Mapping[int, Seen] | None = None
    sent: frozenset[int] = frozenset()
    waiting: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def look(ledger: Ledger, door: Door) -> Look:
    """Ask a site where the points that were submitted there are: one call. What it doesn't say is `unknown`."""
    ours = tuple(one for one in ledger.submissions if door.owns(one))
    current = {point: (one, task) for point, (one, task) in ledger.tasks.items() if door.owns(one)}
    if not current:
        return Look(seen={})
    tokens = {one.token: ledger.job(one) for one in ours if is_current(one, current)}
    argument = {
        "shared": door.profile.shared,
        "sweep": ledger.sweep,
        "tokens": tokens,
        "accounting": door.profile.accounting,
    }
    try:
        told = door.ask("states", argument)
    except LauncherError as e:
        return unanswered(current, str(e.problems[0].message))
    return seen(current, told)


def is_current(one: Submission, current: Mapping[int, tuple[Submission, int]]) -> bool:
    return any(current.get(point, (None, 0))[0] is one for point in one.points)


def unanswered(current: Mapping[int, tuple[Submission, int]], why: str) -> Look:
    return Look(seen=None, sent=frozenset(current), notes=(f"Slurm does not answer: {why}",))


def seen(current: Mapping[int, tuple[Submission, int]], told: Mapping[str, Any]) -> Look:
    """Judge each point by what the site told. Pure."""
    never = frozenset(told["never"])
    waiting = frozenset(point for point, (one, _) in current.items() if one.token in never)
    sent = frozenset(current) - waiting
    if told["silence"] is not None:
        return Look(seen=None, sent=sent, waiting=waiting, notes=(f"Slurm does not answer: {told['silence']}",))
    answer = queue.Answer(rows=tuple(row_from(one) for one in told["rows"]), by=told["by"], surely=told["surely"])
    tasks = {(row.name, index): row for row in answer.rows for index in row.indices}
    found = {}
    for point in sent:
        one, task = current[point]
        known = one.token in told["jobs"]
        found[point] = sight(tasks.get((one.job_name, task)), answer, known=known, task=task)
    return Look(seen=found, sent=sent, waiting=waiting)


def sight(row: queue.Row | None, answer: queue.Answer, *, known: bool, task: int) -> Seen:
    """Return what a line says of a task; without a line it is gone, if the answer surely holds all. Pure.

    A job whose id nobody knows may be one that sbatch is just submitting: it is unknown, never gone.
    """
    if row is None:
        gone = answer.surely and known
        return Seen(state="gone") if gone else Seen(state="unknown", reason=f"{answer.by} does not tell of it")
    state = state_of(row.state, answer)
    job = f"{row.job}_{task}" if row.array else row.job
    reason = plain(row.reason) if state == "pending" and row.reason else None
    if state == "unknown":
        reason = f"{answer.by} calls it {row.state}"
    return Seen(state=state, reason=reason, slurm_state=row.state, job=job, node=row.node or None)


def state_of(word: str, answer: queue.Answer) -> State:
    """Return what Slurm's word means to us. Pure."""
    if word in PENDING:
        return "pending"
    if word in RUNNING:
        return "running"
    if word == "COMPLETING":
        return "completing"
    if word in FINAL or (word in OVER and answer.surely):
        return "gone"
    return "unknown"


def looked(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Do the site's part of `look`: ask Slurm, and see on the shared folder what was surely never submitted."""
    tokens: Mapping[str, str | None] = argument["tokens"]
    desks = {token: Desk(argument["shared"], argument["sweep"], token) for token in tokens}
    open_ones = [token for token, job in tokens.items() if job is None]
    told = {token: desks[token].told() or {} for token in open_ones}
    never = [token for token in open_ones if not told[token] and not has_begun(desks[token])]
    jobs = {token: job or told.get(token, {}).get("job") for token, job in tokens.items()}
    known = {token: str(job) for token, job in jobs.items() if job}
    names = [NAME + token for token in tokens if token not in never]
    answer = queue.ask(names, sorted(known.values()), accounting=argument["accounting"])
    common = {"never": never, "jobs": known}
    if isinstance(answer, queue.Silence):
        return {**common, "silence": answer.why}
    rows = [asdict(row) for row in answer.rows]
    return {**common, "silence": None, "by": answer.by, "surely": answer.surely, "rows": rows}


def has_begun(desk: Desk) -> bool:
    return desk.began.exists() or bool(desk.traces())


def row_from(told: Mapping[str, Any]) -> queue.Row:
    return queue.Row(**{**told, "indices": tuple(told["indices"])})


def together(looks: Iterable[Look]) -> Look:
    """Return what several sites told as one; where one of them is silent its points are unknown."""
    every: Sequence[Look] = tuple(looks)
    answered = [one for one in every if one.seen is not None]
    merged: dict[int, Seen] = {}
    for one in every:
        merged |= one.seen if one.seen is not None else {point: Seen(state="unknown") for point in one.sent}
    return Look(
        seen=merged if answered else None,
        sent=frozenset[int]().union(*(one.sent for one in every)),
        waiting=frozenset[int]().union(*(one.waiting for one in every)),
        notes=tuple(note for one in every for note in one.notes),
    )
