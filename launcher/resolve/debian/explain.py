"""Why there is no such set of packages, in a person's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from launcher.errors import Problem
from launcher.lock.debian_version import key
from launcher.resolve.debian.clauses import Clause, Root
from launcher.resolve.debian.relation import Group
from launcher.resolve.debian.universe import Universe


def explain(core: Iterable[Clause], world: Universe, suite: str) -> Problem:
    """Make one problem of the clauses that together can't hold."""
    clauses = sorted(core, key=standing)
    asked = sorted({label(c.root) for c in clauses if c.root and c.root.asked} | pinned(clauses, world))
    lines = merge(line for clause in clauses for line in lines_of(clause, world, suite))
    text = "\n".join([f"{headline(asked)} from {suite}:", *(f"  {line}" for line in lines)])
    return Problem(message=text, hint=advice_on_base(clauses, world) or advice(asked))


def standing(clause: Clause) -> tuple[bool, bool, bool, bool, str]:
    """Order a tale: who is there anyway, who needs whom, and then what goes wrong."""
    ends = clause.kind == "needs" and not any(x > 0 for x in clause.literals)
    name = clause.subject.name if clause.subject else str(clause.root)
    return (clause.kind not in ("root", "fixed"), ends, clause.kind != "needs", clause.kind == "versions", name)


def pinned(clauses: Iterable[Clause], world: Universe) -> set[str]:
    """Return the requests for a version that leave a need without anything to meet it."""
    names = {r.name for c in clauses if c.kind == "needs" and not world.meeting(c.group) for r in c.group}
    return {f"{name}={world.pins[name]}" for name in names if name in world.pins}


def headline(asked: list[str]) -> str:
    if not asked:
        return "the base system can't be installed"
    names = " and ".join(f"`{name}`" for name in asked)
    return f"{names} can't be installed{' together' if len(asked) > 1 else ''}"


def advice_on_base(clauses: Iterable[Clause], world: Universe) -> str:
    """Say what helps where a base image stands in the way, or where only its other archives may have something."""
    held = any((c.subject and c.subject.held) or (c.other and c.other.held) for c in clauses)
    lacking = [c.group for c in clauses if c.kind == "needs" and not world.meeting(c.group)]
    if held or any(relation.name in world.ground.packages for group in lacking for relation in group):
        return "nothing of a base is upgraded or removed: take another base, or a newer tag of this one"
    return elsewhere(world) if any(not world.versions(r.name) for group in lacking for r in group) else ""


def elsewhere(world: Universe) -> str:
    """Name the archives that only the base's own apt knows; "" when there are none."""
    named = ", ".join(world.ground.foreign)
    return f"the base also names {named}, which launcher doesn't use: install it in a Containerfile" if named else ""


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
        there = f", and the base has {clause.other}" if clause.other.held and not through else ""
        of = " of the base" if clause.subject and clause.subject.held else ""
        yield who[0], f"{who[1]}{of}", f"{clause.word} {clause.relation}{through}{there}"
    elif clause.kind == "versions":
        yield who[0], "", "can be installed in one version only"
    elif clause.kind == "root" and clause.root and not clause.root.asked:
        yield str(clause.root), "", clause.root.why


def needs(group: Group, world: Universe, suite: str) -> str:
    """Say what is needed, and what there is instead when nothing meets it."""
    text = "needs " + " or ".join(str(relation) for relation in group)
    if world.meeting(group):
        return text
    names = dict.fromkeys(relation.name for relation in group)
    if based := [f"{name} {p.version}" for name in names if (p := world.ground.packages.get(name))]:
        return f"{text}, but the base has {' and '.join(based)}"
    if held := [f"`{name}={world.pins[name]}`" for name in names if name in world.pins]:
        return f"{text}, but {' and '.join(held)} was asked for"
    there = [
        f"{name} {version}" for name in names for version in sorted({c.version for c in world.versions(name)}, key=key)
    ]
    return f"{text}, but {suite} has only {' and '.join(there)}" if there else f"{text}, which {suite} does not have"


def merge(lines: Iterable[tuple[str, str, str]]) -> list[str]:
    """Say once what holds for several versions of a package."""
    versions: dict[tuple[str, str], list[str]] = {}
    for name, version, statement in lines:
        versions.setdefault((name, statement), []).append(version)
    return [" ".join(word for word in (name, listed(v), said) if word) for (name, said), v in versions.items()]


def listed(versions: list[str]) -> str:
    found = list(dict.fromkeys(versions))
    return found[0] if len(found) == 1 else f"({', '.join(found)})"
