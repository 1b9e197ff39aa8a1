"""The search for a set of packages: conflict-driven clause learning over clauses that are read when they are needed.

A version of a package is a variable. `needs a | b` is the clause (not p, a, b), `conflicts with q` is (not p, not q).
Only the clauses of chosen packages are ever read, so a solve looks at a few hundred packages of sixty thousand. When
choices clash, the reason is learned as a clause and the search jumps back (Marques-Silva and Sakallah, GRASP, 1996);
when nothing is left to choose, the clauses behind the last clash are the explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from launcher.resolve.debian.clauses import Clause, Root, UnsolvableError, Wishes
from launcher.resolve.debian.universe import Candidate, Universe


def solve(universe: Universe, roots: Sequence[Root], fixed: Iterable[Candidate] = ()) -> tuple[Candidate, ...]:
    """Return a set that meets all roots, with the candidates in `fixed` in it. Raises UnsolvableError."""
    search = Search(universe)
    for candidate in fixed:
        search.add(Clause("fixed", [search.variable(candidate)], subject=candidate))
    for root in roots:
        search.add(Clause("root", [search.variable(c) for c in universe.meeting(root.group)], root=root))
    search.run()
    return needed(universe, roots, search.chosen(), tuple(fixed))


def needed(
    universe: Universe, roots: Sequence[Root], chosen: Sequence[Candidate], fixed: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """Leave out what a given-up choice has left behind: keep what the roots reach."""
    inside, reached = set(chosen), dict.fromkeys(fixed)
    pending = [root.group for root in roots] + [group for c in fixed if not c.held for group in c.depends]
    while pending:
        for candidate in universe.meeting(pending.pop()):
            if candidate in inside and candidate not in reached:
                reached[candidate] = None
                pending.extend(candidate.depends)
    return tuple(sorted(reached, key=lambda c: c.name))


class Search:
    """The state of one search: values, the trail of assignments with their reasons, and watched clauses."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.candidates: dict[int, Candidate] = {}
        self.value: dict[int, bool] = {}
        self.level: dict[int, int] = {}
        self.reason: dict[int, Clause | None] = {}
        self.trail: list[int] = []
        self.marks: list[int] = []  # where each decision's part of the trail begins
        self.head = 0
        self.watching: dict[int, list[Clause]] = {}
        self.needs = Wishes()  # for a version of one package
        self.choices = Wishes()  # for one of several packages
        self.expanded: set[int] = set()
        self.conflict: Clause | None = None

    def variable(self, candidate: Candidate) -> int:
        self.candidates[candidate.number] = candidate
        return candidate.number

    def chosen(self) -> tuple[Candidate, ...]:
        return tuple(self.candidates[v] for v, true in self.value.items() if true)

    def run(self) -> None:
        """Decide until every wish is met."""
        while True:
            clash = self.propagate()
            if clash is not None:
                self.learn(clash)
            elif (literal := self.decision()) is not None:
                self.marks.append(len(self.trail))
                self.assign(literal, None)
            else:
                return

    def decision(self) -> int | None:
        """Return the next choice: versions of packages that must be there first, then real alternatives in order."""
        for queue in (self.needs, self.choices):
            if wants := queue.first_open(self.value):
                return next(x for x in wants if x not in self.value)
        return None

    def true(self, literal: int) -> bool | None:
        value = self.value.get(abs(literal))
        return None if value is None else value is (literal > 0)

    def assign(self, literal: int, reason: Clause | None) -> None:
        variable = abs(literal)
        self.value[variable] = literal > 0
        self.level[variable] = len(self.marks)
        self.reason[variable] = reason
        self.trail.append(literal)

    def propagate(self) -> Clause | None:
        """Draw every conclusion; return a clause that is false, or None."""
        while self.conflict is None and self.head < len(self.trail):
            literal = self.trail[self.head]
            self.head += 1
            if literal > 0 and literal not in self.expanded:
                self.expand(self.candidates[literal])
            if self.conflict is None:
                self.visit(-literal)
        clash, self.conflict = self.conflict, None
        return clash

    def visit(self, false: int) -> None:
        """Look after the clauses that watch a literal which has become false."""
        watchers = self.watching.get(false, [])
        self.watching[false] = []
        for position, clause in enumerate(watchers):
            if self.settle(clause, false):
                continue
            self.watching[false].extend(watchers[position + 1 :])
            self.conflict = clause
            return

    def settle(self, clause: Clause, false: int) -> bool:
        """Move the watch, or conclude the other watched literal. Return False when the clause is false."""
        literals = clause.literals
        if literals[0] == false:
            literals[0], literals[1] = literals[1], literals[0]
        first = literals[0]
        if self.true(first) is not True:
            for position in range(2, len(literals)):
                if self.true(literals[position]) is not False:
                    literals[1], literals[position] = literals[position], literals[1]
                    self.watching.setdefault(literals[1], []).append(clause)
                    return True
        self.watching[false].append(clause)
        if self.true(first) is None:
            self.assign(first, clause)
        return self.true(first) is not False

    def add(self, clause: Clause) -> None:
        """Take a clause in, at any moment: it may be met, open, a conclusion or a conflict already."""
        literals = clause.literals
        wants = tuple(x for x in literals if x > 0)
        if wants and clause.kind != "learned":
            several = len({self.candidates[x].name for x in wants}) > 1
            (self.choices if several else self.needs).add(next((-x for x in literals if x < 0), 0), wants)
        literals.sort(key=self.standing)
        for literal in literals[:2] if len(literals) > 1 else ():
            self.watching.setdefault(literal, []).append(clause)
        if not literals or self.true(literals[0]) is False:
            self.conflict = self.conflict or clause
        elif self.true(literals[0]) is None and (len(literals) == 1 or self.true(literals[1]) is False):
            self.assign(literals[0], clause)

    def standing(self, literal: int) -> tuple[int, int]:
        """Order literals for watching: true, open, then false ones with the latest first."""
        true = self.true(literal)
        return (0, 0) if true else (1, 0) if true is None else (2, -self.level[abs(literal)])

    def expand(self, candidate: Candidate) -> None:
        """Read the clauses of a candidate that has come into the set."""
        me = self.variable(candidate)
        self.expanded.add(me)
        if candidate.held:  # what a base needs it has, or has never had
            return
        for group in candidate.depends:
            meeting = [self.variable(c) for c in self.universe.meeting(group)]
            if me not in meeting:
                self.add(Clause("needs", [-me, *meeting], subject=candidate, group=group))
        for word, relation in candidate.excludes:
            for other in self.universe.satisfiers(relation):
                if other.name != candidate.name:
                    pair = [-me, -self.variable(other)]
                    self.add(Clause("excludes", pair, candidate, other=other, word=word, relation=relation))
        for holder, word, relation in self.universe.objections(candidate):
            pair = [-self.variable(holder), -me]
            self.add(Clause("excludes", pair, holder, other=candidate, word=word, relation=relation))
        for other in self.universe.versions(candidate.name):
            if other is not candidate:
                self.add(Clause("versions", [-me, -self.variable(other)], candidate, other=other))

    def learn(self, clash: Clause) -> None:
        """Find why a clause became false, remember it, and go back to where that matters. Raises UnsolvableError."""
        highest = max((self.level[abs(x)] for x in clash.literals), default=0)
        if highest == 0:
            raise UnsolvableError(self.core(clash))
        self.back_to(highest)
        literals, parents = self.analyse(clash, highest)
        target = max((self.level[abs(x)] for x in literals[1:]), default=0)
        self.back_to(target)
        self.add(Clause("learned", literals, parents=parents))

    def analyse(self, clash: Clause, level: int) -> tuple[list[int], tuple[Clause, ...]]:
        """Resolve backwards to the first unique implication point; return its clause, that literal first."""
        seen: set[int] = set()
        rest: list[int] = []
        parents = [clash]
        pending, clause, position = 0, clash, len(self.trail)
        while True:
            for literal in clause.literals:
                variable = abs(literal)
                if variable in seen or self.true(literal) is not False:
                    continue
                seen.add(variable)
                if self.level[variable] == level:
                    pending += 1
                else:
                    rest.append(literal)
            position -= 1
            while abs(self.trail[position]) not in seen:
                position -= 1
            literal = self.trail[position]
            pending -= 1
            reason = self.reason[abs(literal)]
            if pending == 0 or reason is None:
                return [-literal, *rest], tuple(parents)
            clause = reason
            parents.append(reason)

    def back_to(self, level: int) -> None:
        """Forget all assignments above a level."""
        if level < len(self.marks):
            start = self.marks[level]
            for literal in self.trail[start:]:
                del self.value[abs(literal)]
            del self.trail[start:], self.marks[level:]
            self.needs.met = self.choices.met = 0
            self.head = 0  # a clause that came in late may conclude again from what is left
        self.conflict = None

    def core(self, clash: Clause) -> tuple[Clause, ...]:
        """Return the original clauses from which a clash follows, the nearest to the roots last."""
        found: dict[int, Clause] = {}
        pending = [clash]
        while pending:
            clause = pending.pop()
            if id(clause) in found:
                continue
            found[id(clause)] = clause
            reasons = (self.reason.get(abs(x)) for x in clause.literals if self.true(x) is False)
            pending += clause.parents if clause.kind == "learned" else ()
            pending += [reason for reason in reasons if reason is not None]
        return tuple(clause for clause in found.values() if clause.kind != "learned")
