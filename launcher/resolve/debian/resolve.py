"""From what a spec asks of Debian to the pinned packages that give it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

from launcher.cache import Cache
from launcher.errors import Problem, ResolveError
from launcher.indexes.apt_packages import Package
from launcher.indexes.apt_suite import Suite, open_suite
from launcher.lock.model import Deb
from launcher.progress import Progress
from launcher.resolve.debian.explain import explain
from launcher.resolve.debian.keep import keep, remember
from launcher.resolve.debian.python import check_python, python_version
from launcher.resolve.debian.relation import Relation
from launcher.resolve.debian.solve import Root, UnsolvableError, needed, solve
from launcher.resolve.debian.universe import Candidate, Universe
from launcher.resolve.debian.version import split

REQUEST = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?:=(?P<version>[A-Za-z0-9.+~:-]+))?")
ALWAYS = (
    ("ca-certificates", "is in every image: TLS needs it"),
    ("libstdc++6", "is in every image: manylinux wheels may count on it (PEP 600)"),
    ("python3", "is in every image: the runner needs it"),
)


class Upgrade(Protocol):
    """Which pins of the previous lock are let go."""

    @property
    def all(self) -> bool: ...
    @property
    def packages(self) -> frozenset[str]: ...


@dataclass(frozen=True, kw_only=True)
class DebianSet:
    """`suite` is the codename; `python` is a full version ("3.11.2"); `libc` is like "glibc 2.36"."""

    suite: str
    debs: tuple[Deb, ...]
    python: str
    libc: str


def resolve_debian(
    *,
    base: str,
    apt: tuple[str, ...],
    python: str | None,
    architecture: str,
    previous: tuple[Deb, ...],
    upgrade: Upgrade,
    cache: Cache,
    progress: Progress,
) -> DebianSet:
    """Choose the .debs of an image. `base` is `debian:<suite>`, `apt` are `name` or `name=version`.

    `previous` are the pins of the lock before; they stay unless `upgrade` lets them go or the requests rule them out.
    Raises ResolveError (unknown or clashing packages, wrong Python), FetchError (mirror, signature), IntegrityError.
    """
    wanted = read_requests(apt)
    suite = open_suite(base.partition(":")[2], architecture, cache, progress)
    with ExitStack() as stack:
        for index in suite.indexes:
            stack.callback(index.close)
        kept = keep(previous, upgrade, suite.indexes, architecture, cache, progress)
        world = Universe(suite.indexes, architecture, kept=kept, pins={n: v for n, v in wanted.items() if v})
        check_requests(world, wanted, suite.name)
        check_python(world, python, suite.name)
        chosen = choose(
            world, suite, wanted, upgrade, frozenset(d.name for d in previous if d.group == "base"), progress
        )
    remember(cache, (c.package for c in chosen.everything))
    names = {c.name for c in chosen.base}
    return DebianSet(
        suite=suite.name,
        debs=tuple(pin(c, "base" if c.name in names else "apt") for c in chosen.everything),
        python=python_version(chosen.everything),
        libc=libc_version(chosen),
    )


def read_requests(apt: Sequence[str]) -> dict[str, str]:
    """Return the version ("" for any) by package name. Raises ResolveError with every word that is no request."""
    problems, wanted = [], dict[str, str]()
    for text in apt:
        match = REQUEST.fullmatch(text)
        if not match:
            problems.append(Problem(message=f"`{text}` is not an apt package", hint="write `name` or `name=version`"))
        elif wanted.get(match["name"]) and match["version"] and wanted[match["name"]] != match["version"]:
            problems.append(Problem(message=f"`{match['name']}` is asked for in two versions", hint="keep one of them"))
        else:
            wanted[match["name"]] = match["version"] or wanted.get(match["name"], "")
    if problems:
        raise ResolveError.of(problems)
    return wanted


def check_requests(world: Universe, wanted: Mapping[str, str], suite: str) -> None:
    """Refuse, all at once, what the suite doesn't have at all."""
    problems = [problem for name, version in wanted.items() if (problem := missing(world, name, version, suite))]
    if problems:
        raise ResolveError.of(problems)


def missing(world: Universe, name: str, version: str, suite: str) -> Problem | None:
    """Say why a request can't even begin to be met; None when it can."""
    if world.versions(name):
        return None
    providers = list(dict.fromkeys(c.name for c in world.providers(name)))
    if providers and not version:
        hint = f"ask for one of {', '.join(providers)}"
        return Problem(message=f"`{name}` is a virtual package of {suite}", hint=hint) if len(providers) > 1 else None
    offered = world.offered(name)
    if offered:
        hint = f"{suite} has {', '.join(offered)}; write `{name}` for the newest"
        return Problem(message=f"{suite} has no version {version} of `{name}`", hint=hint)
    near = nearest(world, name)
    hint = f"did you mean {near}?" if near else f"look for its Debian name on a machine with {suite}: apt search {name}"
    return Problem(message=f"{suite} has no package `{name}`", hint=hint)


def nearest(world: Universe, name: str) -> str:
    """Return up to three names that look like `name`, as words."""
    import difflib

    names = {one for index in world.indexes for one in index.names() if abs(len(one) - len(name)) <= 3}
    near = [one for one in names if one[:1] == name[:1]]
    found = difflib.get_close_matches(name, sorted(near), n=3, cutoff=0.75)
    return " or ".join(f"`{one}`" for one in found)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen. `base` is the part that every image of the suite has."""

    base: tuple[Candidate, ...]
    everything: tuple[Candidate, ...]

    def named(self, name: str) -> Candidate | None:
        return next((c for c in self.everything if c.name == name), None)


def choose(
    world: Universe,
    suite: Suite,
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
        raise ResolveError.of(clashes(world, base, asked, suite.name)) from None
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


def clashes(world: Universe, base: list[Root], asked: list[Root], suite: str) -> list[Problem]:
    """Explain every clash: after each, go on without the requests that are part of it."""
    found: list[Problem] = []
    while True:
        try:
            solve(world, [*base, *asked])
            return found
        except UnsolvableError as e:
            found.append(explain(e.core, world, suite))
            part = {clause.root for clause in e.core if clause.root and clause.root.asked}
            asked = [root for root in asked if root not in part]
            if not part:
                return found


def pin(candidate: Candidate, group: Literal["base", "apt"]) -> Deb:
    """Make a lock's entry of a package. Raises ResolveError when the index gives no sha256."""
    package: Package = candidate.package
    if not package.sha256:
        raise ResolveError(
            f"the index lists {package.name} {package.version} without a sha256", hint="name another mirror"
        )
    return Deb(
        name=package.name,
        version=package.version,
        filename=package.pool.rpartition("/")[2],
        size=package.size,
        sha256=package.sha256,
        architecture=package.architecture,
        group=group,
        pool=package.pool,
    )


def libc_version(chosen: Choice) -> str:
    """Return the C library, as "glibc 2.36"."""
    libc = chosen.named("libc6") or chosen.named("libc6.1")
    if libc is None:
        raise ResolveError("the base has no glibc, which Python wheels need", hint="choose a suite of Debian for linux")
    return f"glibc {split(libc.version)[1]}"
