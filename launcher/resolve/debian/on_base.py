"""Packages on top of a base image: only what it lacks is chosen, and nothing of it changes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from launcher.cache import Cache
from launcher.errors import Problem, ResolveError
from launcher.image.base.tree import BaseTree
from launcher.indexes.apt_suite import open_suite
from launcher.lock.debian_version import holds
from launcher.lock.model import Deb
from launcher.progress import Progress
from launcher.resolve.debian.base import Ground, distribution_of, read_ground
from launcher.resolve.debian.choose import clashes, request
from launcher.resolve.debian.clauses import Root, UnsolvableError
from launcher.resolve.debian.keep import Upgrade, keep, remember
from launcher.resolve.debian.python import check_python, python_version
from launcher.resolve.debian.requests import check_requests, read_requests
from launcher.resolve.debian.resolve import pin
from launcher.resolve.debian.solve import solve
from launcher.resolve.debian.universe import Candidate, Universe

PYTHON = "python3"
ANOTHER_BASE = "the base is used as it is: take another tag of it that has it, or install it in a Containerfile"


@dataclass(frozen=True, kw_only=True)
class Added:
    """What comes on top of a base. `python` is the full version of its distribution's python3, the base's own or one
    that is among `debs`; None when there is none."""

    debs: tuple[Deb, ...] = ()
    python: str | None = None


def resolve_on_base(
    *,
    base: BaseTree,
    system: str,
    suite: str,
    apt: tuple[str, ...],
    architecture: str,
    cache: Cache,
    progress: Progress,
    upgrade: Upgrade,
    previous: tuple[Deb, ...] = (),
    with_python: bool = False,
    python: str | None = None,
) -> Added:
    """Choose the .debs that a base lacks for `apt` (`name` or `name=version`).

    `system` and `suite` are ID and VERSION_CODENAME of the base's os-release(5), `architecture` is Debian's word.
    `with_python` asks for python3 as well, of version `python` (X.Y) if that is given. `previous` are the pins of the
    lock before. Where the base has everything already no mirror is asked.

    Raises ResolveError (not Debian or Ubuntu, unknown packages, something that would change the base, another
    Python), FetchError (no mirror of that distribution, mirror, signature), IntegrityError, ImageError.
    """
    wanted = read_requests(apt)
    distribution = distribution_of(system, base)
    ground = read_ground(base, suite, architecture, distribution)
    refuse_changes(ground, wanted)
    if with_python:
        wanted.setdefault(PYTHON, "")
    if wanted.keys() <= ground.packages.keys():
        return Added(python=own_python(ground))
    names = tuple(deb for deb in previous if deb.name not in ground.packages)
    listed = open_suite(suite, architecture, cache, progress, distribution=distribution, components=ground.components)
    with ExitStack() as stack:
        for index in listed.indexes:
            stack.callback(index.close)
        kept = keep(names, upgrade, listed.name, listed.indexes, architecture, cache, progress)
        pins = {name: version for name, version in wanted.items() if version}
        world = Universe(listed.indexes, architecture, kept=kept, pins=pins, ground=ground)
        check_requests(world, wanted, listed.name)
        if with_python and PYTHON not in ground.packages:
            check_python(world, python, listed.name)
        chosen = choose_missing(world, wanted, listed.name)
    remember(cache, listed.name, (c.package for c in chosen))
    everything = [*world.held(), *chosen]
    return Added(
        debs=tuple(pin(candidate, "apt") for candidate in chosen),
        python=python_version(everything) if any(c.name == PYTHON for c in everything) else None,
    )


def refuse_changes(ground: Ground, wanted: Mapping[str, str]) -> None:
    """Refuse, all at once, another version of what the base has."""
    problems = [
        Problem(message=f"`{name}={version}` was asked for, but the base has {name} {there.version}", hint=ANOTHER_BASE)
        for name, version in wanted.items()
        if version and (there := ground.packages.get(name)) and not holds(there.version, "=", version)
    ]
    if problems:
        raise ResolveError.of(problems)


def own_python(ground: Ground) -> str | None:
    if PYTHON not in ground.packages:
        return None
    return python_version(Candidate(number=0, package=one) for one in ground.packages.values())


def choose_missing(world: Universe, wanted: Mapping[str, str], suite: str) -> tuple[Candidate, ...]:
    """Solve with the base in place. Raises ResolveError with every clash."""
    roots = [Root((request(name, version),), asked=True) for name, version in wanted.items()]
    held = world.held()
    try:
        chosen = solve(world, roots, held)
    except UnsolvableError:
        raise ResolveError.of(clashes(world, [], roots, suite, held)) from None
    return tuple(candidate for candidate in chosen if not candidate.held)
