"""Why there is no such set of packages, in a person's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from launcher.errors import Problem
from launcher.resolve.debian.relation import Group
from launcher.resolve.debian.solve import Clause, Root
from launcher.resolve.debian.universe import Universe
from launcher.resolve.debian.version import key


def explain(core: Iterable[Clause], world: Universe, suite: str) -> Problem:
    """Make one problem of the clauses that together can't hold."""
    clauses = tuple(core)
    asked = list(dict.fromkeys(label(c.root) for c in clauses if c.root and c.root.asked))
    lines = merge(line for clause in reversed(clauses) for line in lines_of(clause, world, suite))
    return Problem(
        message="\n".join([f"{headline(asked)} from {suite}:", *(f"  {line}" for line in lines)]), hint=advice(asked)
    )


def headline(asked: list[str]) -> str:
    if not asked:
        return "the base system can't be installed"
    names = " and ".join(f"`{name}`" for name in asked)
    return f"{names} can't be installed{' together' if len(asked) > 1 else ''}"


def advice(asked: list[str]) -> str:
    if not asked:
        return "the mirror's indexes don't fit together: try again later, or name another mirror"
    if any("=" in name for name in asked):
        return "ask for another version, or leave the version out"
    return "leave one of them out" if len(asked) > 1 else "leave it out, or choose another suite as base"


def label(root: Root) -> str:
    """Return a request as it is written in a spec."""
    relation = root.group[0]
    return f"{relation.name}={relation.version}" if relation.version else relation.name


def lines_of(clause: Clause, world: Universe, suite: str) -> Iterator[tuple[str, str, str]]:
    """Yield (package, version, statement) of one clause."""
    who = (clause.subject.name, clause.subject.version) if clause.subject else ("", "")
    if clause.kind == "needs":
        yield (*who, needs(clause.group, world, suite))
    elif clause.kind == "excludes" and clause.relation and clause.other:
        through = f", and {clause.other} provides it" if clause.other.name != clause.relation.name else ""
        yield (*who, f"{clause.word} {clause.relation}{through}")
    elif clause.kind == "fixed":
        yield (*who, "is in the base of every image")
    elif clause.kind == "root" and clause.root and not clause.root.asked:
        yield str(clause.root), "", clause.root.why


def needs(group: Group, world: Universe, suite: str) -> str:
    """Say what is needed, and what there is instead when nothing meets it."""
    text = "needs " + " or ".join(str(relation) for relation in group)
    if world.meeting(group):
        return text
    names = dict.fromkeys(relation.name for relation in group)
    there = [
        f"{name} {version}" for name in names for version in sorted({c.version for c in world.versions(name)}, key=key)
    ]
    return f"{text}, but {suite} has only {' and '.join(there)}" if there else f"{text}, which {suite} does not have"


def merge(lines: Iterable[tuple[str, str, str]]) -> list[str]:
    """Say once what holds for several versions of a package."""
    versions: dict[tuple[str, str], list[str]] = {}
    for name, version, statement in lines:
        versions.setdefault((name, statement), []).append(version)
    return [f"{name} {', '.join(dict.fromkeys(v))} {said}".replace("  ", " ") for (name, said), v in versions.items()]
