"""The words of the search: clauses with their reasons, roots, wishes, and the error that carries an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from launcher.resolve.debian.relation import Group, Relation
from launcher.resolve.debian.universe import Candidate

Kind = Literal["root", "fixed", "needs", "excludes", "versions", "learned"]


@dataclass(frozen=True, eq=False)
class Clause:
    """A disjunction of literals (+n: candidate n is in the set, -n: it isn't), and why it holds."""

    kind: Kind
    literals: list[int]  # the first two are watched
    subject: Candidate | None = None
    group: Group = ()
    other: Candidate | None = None
    word: str = ""
    relation: Relation | None = None
    root: Root | None = None
    parents: tuple[Clause, ...] = ()


@dataclass(frozen=True)
class Root:
    """Something that must be there. `asked` tells that a person asked for it, rather than Debian or launcher."""

    group: Group
    asked: bool = False
    why: str = ""

    def __str__(self) -> str:
        return " | ".join(str(relation) for relation in self.group)


class UnsolvableError(Exception):
    """There is no such set. `core` are the clauses that together can't hold."""

    def __init__(self, core: tuple[Clause, ...]) -> None:
        super().__init__("no set of packages meets all requirements")
        self.core = core


class Wishes:
    """What chosen packages want, in order of appearance: (who wants it or 0, candidates in order of preference)."""

    def __init__(self) -> None:
        self.queue: list[tuple[int, tuple[int, ...]]] = []
        self.met = 0  # so many from the front are met, until the search jumps back

    def add(self, guard: int, wants: tuple[int, ...]) -> None:
        self.queue.append((guard, wants))

    def first_open(self, value: dict[int, bool]) -> tuple[int, ...]:
        """Return the first wish of a chosen package that nothing meets yet; () when there is none."""
        front = True
        for guard, wants in self.queue[self.met :]:
            met = any(value.get(x) for x in wants)
            if not met and (not guard or value.get(guard)):
                return wants
            front = front and met
            self.met += front
        return ()
