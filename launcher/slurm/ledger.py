"""The ledger of a sweep in the store: what was meant to be submitted, what Slurm said to it, and what follows.

An intent without an answer is not known to be anywhere: its maker died, or waits for the site's limit. Where sbatch is,
that can be told (`launcher.slurm.placing`); here nobody guesses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from launcher.errors import ObjectExistsError, StoreError
from launcher.records.writing import created
from launcher.runner.clock import stamp
from launcher.slurm.model import Answer, Submission, answer_from, submission_from, to_json
from launcher.slurm.splitting import halves
from launcher.store import keys
from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All submissions of a sweep, by their number, and the answers, by the number of what they answer."""

    sweep: str
    submissions: tuple[Submission, ...] = ()
    answers: Mapping[int, Answer] = field(default_factory=dict)

    @property
    def next_number(self) -> int:
        return max((one.number for one in self.submissions), default=0) + 1

    @cached_property
    def unborn(self) -> tuple[Submission, ...]:
        """Halves that an answer names, and that nobody has written yet. Their numbers are those of what they halve."""
        known = {one.token for one in self.submissions}
        parents = [one for one in self.submissions if self.answers.get(one.number, NONE).halves]
        return tuple(half for one in parents for half in halves(one) if half.token not in known)

    @cached_property
    def open(self) -> tuple[Submission, ...]:
        """Those without an answer, in the order in which they go to Slurm."""
        return tuple(one for one in self.submissions if one.number not in self.answers)

    @cached_property
    def taken(self) -> tuple[tuple[Submission, str], ...]:
        """Those that Slurm has taken, with its id."""
        pairs = ((one, self.answers.get(one.number, NONE).job) for one in self.submissions)
        return tuple((one, job) for one, job in pairs if job is not None)

    @cached_property
    def waiting(self) -> frozenset[int]:
        """The points of submissions without an answer: they go to Slurm by these, or are there already."""
        return frozenset(point for one in (*self.open, *self.unborn) for point in one.points)

    @cached_property
    def tasks(self) -> Mapping[int, tuple[Submission, int]]:
        """The last task of each point: its submission, and its index there. Those that came to nothing don't count."""
        jobs = {one.number for one, _ in self.taken} | {one.number for one in self.open}
        found: dict[int, tuple[Submission, int]] = {}
        for one in self.submissions:
            if one.number in jobs:
                found |= {point: (one, task) for task, group in enumerate(one.groups) for point in group}
        return found

    @cached_property
    def declined(self) -> Mapping[int, str]:
        """The points of which Slurm refused the last submission, with its words. Nobody submits them by themselves."""
        found: dict[int, str] = {}
        for one in self.submissions:
            said = self.answers.get(one.number, NONE).refused
            for point in one.points:
                found.pop(point, None)
            found |= dict.fromkeys(one.points, said) if said else {}
        return found

    def job(self, one: Submission) -> str | None:
        return self.answers.get(one.number, NONE).job


NONE = Answer(token="")


def read(store: Store, sweep: str) -> Ledger:
    """Read a ledger: one listing, and its objects at once. Raises StoreError when one of them can't be read."""
    found = [entry.key for entry in store.list(keys.submissions(sweep))]
    told = {key: parsed(store, key, data) for key, data in (store.get_many(found) if found else ()) if data}
    answers: dict[int, Answer] = {}
    intents: dict[str, Submission] = {}
    for key in sorted(told):
        name = key.rpartition("/")[2].removesuffix(".json")
        try:
            if name.endswith("-job"):
                answers[int(name.removesuffix("-job"))] = answer_from(told[key])
            else:
                one = replace(submission_from(told[key]), number=int(name))
                intents.setdefault(one.token, one)  # halves that two have written are one
        except (KeyError, TypeError, ValueError) as e:
            raise StoreError(f"{store.url}: {key} is no submission: {e}") from e
    return Ledger(sweep=sweep, submissions=tuple(sorted(intents.values(), key=lambda x: x.number)), answers=answers)


def parsed(store: Store, key: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as e:
        raise StoreError(f"{store.url}: {key} is no JSON: {e}") from e


def intend(store: Store, sweep: str, one: Submission) -> bool:
    """Write an intent under its number. Return False when that number was somebody else's."""
    return created(store, keys.submission(sweep, one.number), encoded(one))


def answer(store: Store, sweep: str, one: Submission, said: Answer) -> Answer:
    """Write what became of an intent; return that, or what somebody else has written before."""
    key = keys.submitted(sweep, one.number)
    said = replace(said, when=stamp())
    try:
        store.create(key, encoded(said))
        return said
    except ObjectExistsError:
        return answer_from(parsed(store, key, store.get(key)))


def bear(store: Store, ledger: Ledger) -> Ledger:
    """Write the halves that an answer names and nobody has written; return the ledger as it is then."""
    while ledger.unborn:
        number = ledger.next_number
        for offset, half in enumerate(ledger.unborn):
            intend(store, ledger.sweep, replace(half, number=number + offset, when=stamp()))
        ledger = read(store, ledger.sweep)
    return ledger


def encoded(value: Submission | Answer) -> bytes:
    return json.dumps(to_json(value), sort_keys=True).encode()
