"""The choice of packages: the base by itself, what is asked for on top of it, and upgrades by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.errors import Problem, ResolveError
from launcher.progress import Progress
from launcher.resolve.debian.clauses import Root, UnsolvableError
from launcher.resolve.debian.explain import explain
from launcher.resolve.debian.keep import Upgrade
from launcher.resolve.debian.relation import Relation
from launcher.resolve.debian.solve import needed, solve
from launcher.resolve.debian.universe import Candidate, Universe

ALWAYS = (
    ("ca-certificates", "is in every image: TLS needs it"),
    ("libstdc++6", "is in every image: manylinux wheels may count on it (PEP 600)"),
    ("python3", "is in every image: the runner needs it"),
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen. `base` is the part that every image of the suite has."""

    base: tuple[Candidate, ...]
    everything: tuple[Candidate, ...]

    def named(self, name: str) -> Candidate | None:
        return next((c for c in self.everything if c.name == name), None)


def choose(
    world: Universe,
    suite: str,
    wanted: Mapping[str, str],
    upgrade: Upgrade,
    based: frozenset[str],
    progress: Progress,
) -> Choice:
    """Solve; then, for every package that was to be upgraded by name, try again with its newest version."""
    base = [Root((Relation(name=name),), why="is in every image: it is Essential") for name in world.essential()]
    base += [Root((Relation(name=name),), why=why) for name, why in ALWAYS]
    asked = [Root((request(name, version),), asked=True) for name, version in wanted.items()]
    try:
        chosen = solve_both(world, base, asked, based)
    except UnsolvableError:
        raise ResolveError.of(clashes(world, base, asked, suite)) from None
    for name in sorted(upgrade.packages):
        chosen = lift(world, base, asked, based, chosen, name, progress)
    return chosen


def request(name: str, version: str) -> Relation:
    return Relation(name=name, operator="=" if version else "", version=version)


def solve_both(
    world: Universe, base: list[Root], asked: list[Root], based: frozenset[str], first: Sequence[Candidate] = ()
) -> Choice:
    """Solve the base by itself, so that it doesn't depend on what is asked for; then everything on top of it.

    Where that can't be (a request pins or excludes a package of the base), both are solved together.
    """
    world.preferred = based
    early = solve(world, base)
    world.preferred = frozenset(world.kept)
    names = {c.name for c in early}
    if any(c.name in names for c in first):
        early = solve(world, base, [c for c in first if c.name in names])
    try:
        return Choice(base=early, everything=solve(world, [*base, *asked], dict.fromkeys([*early, *first])))
    except UnsolvableError:
        together = solve(world, [*base, *asked], first)
        return Choice(base=needed(world, base, together, ()), everything=together)


def lift(
    world: Universe,
    base: list[Root],
    asked: list[Root],
    based: frozenset[str],
    chosen: Choice,
    name: str,
    progress: Progress,
) -> Choice:
    """Move one package to its newest version, and what that forces; leave all as it is when that can't be."""
    now, newest = chosen.named(name), world.versions(name)[:1]
    if now is None or newest == (now,):
        return chosen
    try:
        return solve_both(world, base, asked, based, newest)
    except UnsolvableError:
        progress.note(f"{name} stays at {now.version}: what is asked for can't be had with {newest[0].version}")
        return chosen


def clashes(
    world: Universe, base: list[Root], asked: list[Root], suite: str, fixed: Sequence[Candidate] = ()
) -> list[Problem]:
    """Explain every clash: after each, go on without the requests that are part of it."""
    found: list[Problem] = []
    while True:
        try:
            solve(world, [*base, *asked], fixed)
            return found
        except UnsolvableError as e:
            found.append(explain(e.core, world, suite))
            part = {clause.root for clause in e.core if clause.root and clause.root.asked}
            asked = [root for root in asked if root not in part]
            if not part:
                return found
