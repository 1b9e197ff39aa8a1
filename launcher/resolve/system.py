"""What wheels are put upon: a Debian system of our own, or a base as it is with what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.errors import ResolveError
from launcher.lock.model import Base, Deb, Lock
from launcher.lock.requirements import Asked
from launcher.progress import Progress
from launcher.resolve.upgrade import Upgrade
from launcher.spec.model import Spec

if TYPE_CHECKING:
    from launcher.resolve.base import Resolved

REGISTRY = "docker://"
APT_SYSTEMS = ("debian", "ubuntu")
NO_PYTHON = "take a base with Python, or install it in a Containerfile (`image.containerfile`)"
DPKG_SAYS = "{name} has no python3 on its PATH, and its dpkg says that python3 is installed: nothing can be added"
NO_MUSL = "take a base with glibc, such as a -slim one instead of -alpine: wheels are chosen for glibc"


@dataclass(frozen=True, kw_only=True)
class System:
    """`suite`, `libc`, `python` and `interpreter` are a lock's words; `found` is the base, None for our own Debian."""

    suite: str
    libc: str
    python: str | None
    interpreter: str | None = None
    debs: tuple[Deb, ...] = ()
    found: Resolved | None = None

    @property
    def base(self) -> Base | None:
        return self.found.base if self.found else None


def debian(
    spec: Spec, architecture: str, previous: Lock | None, upgrade: Upgrade, cache: Cache, progress: Progress
) -> System:
    """Choose the packages of a Debian system of our own."""
    from launcher.resolve.debian import resolve_debian

    made = resolve_debian(
        base=spec.image.base,
        apt=spec.image.apt,
        python=spec.image.python,
        architecture=architecture,
        previous=previous.debs if previous and previous.inputs.base == spec.image.base else (),
        upgrade=upgrade,
        cache=cache,
        progress=progress,
    )
    return System(suite=made.suite, libc=made.libc, python=made.python, debs=made.debs)


def over_base(
    found: Resolved,
    spec: Spec,
    asked: Asked,
    architecture: str,
    previous: Lock | None,
    upgrade: Upgrade,
    cache: Cache,
    progress: Progress,
) -> System:
    """Choose what a base lacks. Its Python counts where requirements or `python:` ask for one.

    Raises ResolveError when it can't have what is asked for.
    """
    wanted = bool(asked.requirements or spec.image.python)
    if asked.requirements and not found.libc.startswith("glibc"):
        raise ResolveError(f"the base has {found.libc}, and image.pip needs glibc", hint=NO_MUSL)
    add_python = wanted and not found.python
    if add_python and found.base.system not in APT_SYSTEMS:
        raise ResolveError(f"the base ({found.base.system}) has no Python, and one is needed", hint=NO_PYTHON)
    system = System(suite=found.suite, libc=found.libc, python=None, found=found)
    if spec.image.apt or add_python:
        system = with_packages(system, found, spec, add_python, architecture, previous, upgrade, cache, progress)
    if not wanted or add_python:
        return system
    return with_python(system, found)


def with_python(system: System, found: Resolved) -> System:
    """Take the base's own Python; its path is told where it isn't the usual one."""
    from dataclasses import replace

    version = found.python or ""
    usual = f"/usr/bin/python{'.'.join(version.split('.')[:2])}"
    return replace(system, python=version, interpreter=None if found.interpreter == usual else found.interpreter)


def with_packages(
    system: System,
    found: Resolved,
    spec: Spec,
    add_python: bool,
    architecture: str,
    previous: Lock | None,
    upgrade: Upgrade,
    cache: Cache,
    progress: Progress,
) -> System:
    from dataclasses import replace

    from launcher.resolve.debian.on_base import resolve_on_base

    same = previous and previous.base and previous.base.manifest == found.base.manifest
    added = resolve_on_base(
        base=found.tree,
        system=found.base.system,
        suite=found.suite,
        apt=spec.image.apt,
        architecture=architecture,
        previous=previous.debs if previous and same else (),
        upgrade=upgrade,
        with_python=add_python,
        python=spec.image.python,
        cache=cache,
        progress=progress,
    )
    if add_python and not any(deb.name.startswith("python3") for deb in added.debs):
        raise ResolveError(DPKG_SAYS.format(name=found.base.config.name), hint=NO_PYTHON)
    return replace(system, debs=added.debs, python=added.python if add_python else None)
