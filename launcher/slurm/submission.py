"""Submits points of a sweep: intents into the store first, then arrays to Slurm, then what Slurm said into the store.

Doing it again after a crash at any moment, on any machine, repairs it: no point is submitted twice, and none is
forgotten. What has to wait for the site's limit is left ready on the shared folder: see `launcher.slurm.continuing`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from launcher.runner.clock import stamp
from launcher.slurm import ledger as ledgers
from launcher.slurm.door import Door
from launcher.slurm.ledger import Ledger
from launcher.slurm.model import Answer, Outcome, Report, Submission
from launcher.slurm.placing import Request
from launcher.slurm.splitting import TOKEN_LENGTH, Array, halves, split
from launcher.store.objects import Store

if TYPE_CHECKING:
    from launcher.job.sweeps import Plan
    from launcher.node.order import Order

DEEPEST = 16  # halvings: more than any array has


def submit(
    store: Store,
    plan: Plan,
    indices: Iterable[int],
    *,
    door: Door,
    order: Order,
    options: Mapping[str, Any],
    known: Ledger | None = None,
    cancelled: frozenset[int] = frozenset(),
    who: str | None = None,
) -> Report:
    """Submit points, and repair what an earlier submit of this sweep has left unfinished there.

    `order` is what the tasks are told, without token, number and groups; `options` come from `launcher.slurm.options`.
    `known` is the ledger by which the points were chosen: what others have submitted since is not submitted again.
    Raises StoreError, TargetError, DiskFullError; whatever is raised, doing it again goes on from there.
    """
    now = ledgers.bear(store, ledgers.read(store, plan.sweep))
    now = intended(store, plan, indices, now, known or now, door, who)
    return carry_out(store, now, door, Writer(order, options), cancelled)


def repair(store: Store, sweep: str, *, door: Door, cancelled: frozenset[int] = frozenset()) -> Report:
    """Bring forward what was intended at this site and has no answer, as far as its scripts lie there.

    No new intent is made. What has none there is in `unknown`: a submit, which knows the options, brings it.
    """
    return carry_out(store, ledgers.bear(store, ledgers.read(store, sweep)), door, None, cancelled)


class Writer:
    """Makes orders and scripts of submissions."""

    def __init__(self, order: Order, options: Mapping[str, Any]) -> None:
        self.order, self.options = order, options

    def texts(self, one: Submission) -> tuple[str, str]:
        """Return the order and the script."""
        from launcher.slurm.script import text

        order = replace(self.order, token=one.token, number=one.number, groups=one.groups)
        return json.dumps(order.to_json()), text(order, self.options, throttle=one.throttle)


def requests(
    ledger: Ledger, wanted: Sequence[Submission], writer: Writer | None, cancelled: frozenset[int] = frozenset()
) -> list[Request]:
    """Return what the site is asked to place, in the order of intents. Pure."""
    wholes = {half.token: one.token for one in ledger.submissions if is_halved(ledger, one) for half in halves(one)}
    found = []
    for one in wanted:
        order, script = writer.texts(one) if writer is not None else (None, None)
        made = Request(
            order=order,
            script=script,
            sweep=ledger.sweep,
            token=one.token,
            tasks=len(one.groups),
            after=one.after,
            half_of=wholes.get(one.token),
            groups=one.groups if one.token in wholes else (),
            number=one.number,
            throttle=one.throttle,
            unwanted="cancelled" if cancelled.issuperset(one.points) else None,
        )
        found.append(made)
    return found


def is_halved(ledger: Ledger, one: Submission) -> bool:
    return bool(ledger.answers.get(one.number, ledgers.NONE).halves)


def drafts(ledger: Ledger, plan: Plan, indices: Iterable[int], door: Door, who: str | None = None) -> list[Submission]:
    """Return the intents that submitting these points would write, with new tokens. Nothing is written."""
    profile = door.profile
    arrays = split(
        sorted(set(indices)),
        pack=plan.pack,
        max_array=profile.max_array,
        max_submit=profile.max_submit,
        max_parallel=plan.max_parallel,
    )
    made: list[Submission] = []
    last = last_of_lanes(ledger, door)
    lanes = len(last)
    for offset, array in enumerate(arrays):
        array = in_lanes(array, offset, last, lanes)
        one = Submission(
            number=ledger.next_number + offset,
            token=secrets.token_hex(TOKEN_LENGTH // 2),
            target=profile.name,
            site=door.site,
            groups=array.groups,
            lane=array.lane,
            throttle=array.throttle,
            after=last[array.lane].token if array.lane in last else None,
            when=stamp(),
            who=who,
        )
        made.append(one)
        if array.lane is not None:
            last[array.lane] = one
    return made


def last_of_lanes(ledger: Ledger, door: Door) -> dict[int | None, Submission]:
    """Return what each lane ends with, so that `max_parallel` also holds for what is submitted later."""
    return {one.lane: one for one in ledger.submissions if one.lane is not None and door.owns(one)}


def in_lanes(array: Array, offset: int, last: Mapping[int | None, Submission], lanes: int) -> Array:
    """Put an array into the lanes that the sweep has; its own where it has none yet."""
    if array.lane is None or not lanes:
        return array
    lane = sorted(lane for lane in last if lane is not None)[offset % lanes]
    return replace(array, lane=lane, throttle=last[lane].throttle)


def intended(
    store: Store, plan: Plan, indices: Iterable[int], ledger: Ledger, known: Ledger, door: Door, who: str | None
) -> Ledger:
    """Write intents for these points, but for those that have one without an answer, or got one since `known`."""
    wanted = list(indices)
    while left := uncovered(wanted, ledger, known):
        for one in drafts(ledger, plan, left, door, who):
            if not ledgers.intend(store, ledger.sweep, one):
                break  # somebody else submits, too: what they have intended is seen now
        ledger = ledgers.read(store, ledger.sweep)
    return ledger


def uncovered(wanted: Iterable[int], ledger: Ledger, known: Ledger) -> list[int]:
    have = covered(ledger, known)
    return [point for point in wanted if point not in have]


def covered(ledger: Ledger, known: Ledger) -> frozenset[int]:
    since = [one for one in ledger.submissions if one.number >= known.next_number and not came_to_nothing(ledger, one)]
    return ledger.waiting.union(*(one.points for one in since))


def came_to_nothing(ledger: Ledger, one: Submission) -> bool:
    answer = ledger.answers.get(one.number, ledgers.NONE)
    return answer.refused is not None or answer.dropped is not None


def carry_out(
    store: Store, ledger: Ledger, door: Door, writer: Writer | None, cancelled: frozenset[int] = frozenset()
) -> Report:
    """Place what has no answer, and write the answers; halve what is too big, and place that."""
    report, tried = Report(), set[str]()
    for _ in range(DEEPEST):
        left = [one for one in ledger.open if door.owns(one) and one.token not in tried]
        if not left:
            break
        outcomes = ask_to_place(door, requests(ledger, left, writer, cancelled))
        tried |= {one.token for one, outcome in zip(left, outcomes, strict=True) if outcome.kind != "limit"}
        report = told(report, list(zip(left, outcomes, strict=True)))
        for one, outcome in zip(left, outcomes, strict=True):
            if answer := answer_of(one, outcome):
                ledgers.answer(store, ledger.sweep, one, answer)
        if not any(outcome.kind == "too_big" for outcome in outcomes):
            break
        ledger = ledgers.bear(store, ledgers.read(store, ledger.sweep))
    elsewhere = "it was meant for another site, and is looked after from there"
    others = tuple((one, elsewhere) for one in ledger.open if not door.owns(one))
    return replace(report, unknown=(*report.unknown, *others))


def ask_to_place(door: Door, wanted: Sequence[Request]) -> list[Outcome]:
    argument = {
        "shared": door.profile.shared,
        "accounting": door.profile.accounting,
        "requests": [asdict(one) for one in wanted],
    }
    return [Outcome(**one) for one in door.ask("submit", argument)]


def answer_of(one: Submission, outcome: Outcome) -> Answer | None:
    """Return what is written of an outcome; nothing as long as it isn't decided."""
    if outcome.kind == "job":
        return Answer(token=one.token, job=outcome.job)
    if outcome.kind == "refused":
        return Answer(token=one.token, refused=outcome.says)
    if outcome.kind == "dropped":
        return Answer(token=one.token, dropped=outcome.says)
    if outcome.kind == "too_big":
        return Answer(token=one.token, halves=tuple(half.token for half in halves(one)))
    return None


def told(report: Report, pairs: Sequence[tuple[Submission, Outcome]]) -> Report:
    """Add to a report what came of some submissions; those that wait are told as the last round has them."""
    names = ("placed", "found", "waiting", "unknown", "refused", "dropped")
    kinds: dict[str, list[Any]] = {name: [] for name in names}
    for one, outcome in pairs:
        if outcome.kind == "job":
            kinds["found" if outcome.found else "placed"].append(one)
        elif outcome.kind == "limit":
            kinds["waiting"].append(one)
        elif outcome.kind == "dropped":
            kinds["dropped"].append(one)
        elif outcome.kind != "too_big":
            kinds["refused" if outcome.kind == "refused" else "unknown"].append((one, outcome.says or ""))
    limits = [outcome.says for _, outcome in pairs if outcome.kind in ("limit", "too_big") and outcome.says]
    return Report(
        placed=(*report.placed, *kinds["placed"]),
        found=(*report.found, *kinds["found"]),
        waiting=tuple(kinds["waiting"]),
        unknown=(*report.unknown, *kinds["unknown"]),
        refused=(*report.refused, *kinds["refused"]),
        dropped=(*report.dropped, *kinds["dropped"]),
        jobs={**report.jobs, **{one.token: outcome.job for one, outcome in pairs if outcome.job}},
        limit=limits[0] if limits else report.limit,
    )
