"""From what a spec asks of Debian to the pinned packages that give it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from launcher.cache import Cache
from launcher.errors import ResolveError
from launcher.indexes.apt_packages import Package
from launcher.indexes.apt_suite import open_suite
from launcher.lock.debian_version import split
from launcher.lock.model import Deb
from launcher.progress import Progress
from launcher.resolve.debian.choose import Choice, choose
from launcher.resolve.debian.keep import Upgrade, keep, remember
from launcher.resolve.debian.python import check_python, python_version
from launcher.resolve.debian.requests import check_requests, read_requests
from launcher.resolve.debian.universe import Candidate, Universe


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
        kept = keep(previous, upgrade, suite.name, suite.indexes, architecture, cache, progress)
        world = Universe(suite.indexes, architecture, kept=kept, pins={n: v for n, v in wanted.items() if v})
        check_requests(world, wanted, suite.name)
        check_python(world, python, suite.name)
        chosen = choose(
            world, suite.name, wanted, upgrade, frozenset(d.name for d in previous if d.group == "base"), progress
        )
    remember(cache, suite.name, (c.package for c in chosen.everything))
    names = {c.name for c in chosen.base}
    return DebianSet(
        suite=suite.name,
        debs=tuple(pin(c, "base" if c.name in names else "apt") for c in chosen.everything),
        python=python_version(chosen.everything),
        libc=libc_version(chosen),
    )


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
