"""A spec to its lock: the system first, then Python for what it gives, then data; everything fetched and checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.errors import IntegrityError, Problem, ResolveError
from launcher.fetch import default_sources, fetch, fill_sizes
from launcher.gpu.model import Gpu
from launcher.indexes.settings import configured
from launcher.inputs import pin
from launcher.lock.inputs import asked_python, inputs
from launcher.lock.model import Lock, Wheel
from launcher.lock.requirements import Asked, IndexOptions
from launcher.progress import SILENT, Progress
from launcher.resolve.python import resolve_python
from launcher.resolve.sdist_builds import Builds, marked, offered, pins
from launcher.resolve.system import REGISTRY, System, debian, over_base
from launcher.resolve.upgrade import KEEP, Upgrade
from launcher.resolve.workshop import Workshop
from launcher.spec.model import Spec

if TYPE_CHECKING:
    from launcher.resolve.base import Resolved

ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64"}  # OCI's word -> Debian's
NAMED_AT_MOST = 8  # packages in a note


@dataclass(frozen=True, kw_only=True)
class Target:
    """What wheels are chosen for, in a lock's words."""

    python: str
    libc: str
    architecture: str


def resolve(
    spec: Spec,
    *,
    cache: Cache,
    previous: Lock | None = None,
    upgrade: Upgrade = KEEP,
    progress: Progress = SILENT,
    workshop: Workshop | None = None,
    options: IndexOptions | None = None,
) -> Lock:
    """Decide what a spec means today. Pins of `previous` are kept unless `upgrade` lets them go.

    `workshop` makes what has to be executed once, such as wheels from source; `options` are those of a requirements
    file, where they aren't this spec's own.

    All artifacts are in the cache afterwards: an index that lies about a hash is found out now, and building needs
    no network. The same spec, previous lock and state of the indexes give the same lock.

    Raises SpecError, ResolveError, FetchError, IntegrityError, ProcessError (no uv), DiskFullError.
    """
    asked = asked_python(spec)
    asked = replace(asked, options=options) if options else asked
    architecture = architecture_of(spec)

    def builder(inner: Spec) -> Lock:  # in the image as it is, or as it was just made when all is upgraded
        before = None if upgrade.all else previous
        return resolve(inner, cache=cache, previous=before, progress=progress, workshop=workshop, options=asked.options)

    builds = Builds(spec=spec, asked=asked, previous=previous, upgrade=upgrade, workshop=workshop, resolver=builder)
    system, wheels = packages(spec, asked, architecture, previous, upgrade, builds, cache, progress)
    data = tuple(sorted((pin(one, cache, progress) for one in spec.data), key=lambda pin: pin.name))
    paths = fetch((*system.debs, *wheels), cache, default_sources(asked.options, strict=True), progress)
    gpu = gpu_needs(system, wheels, paths, cache, progress)
    return Lock(
        inputs=inputs(spec, asked),
        suite=system.suite,
        architecture=architecture,
        python=system.python,
        interpreter=system.interpreter,
        libc=system.libc,
        base=system.base,
        gpu=gpu,
        env=dict(sorted(spec.image.env.items())),
        debs=tuple(sorted(fill_sizes(system.debs, paths), key=lambda deb: deb.name)),
        wheels=fill_sizes(wheels, paths),
        data=data,
    )


def gpu_needs(
    system: System, wheels: tuple[Wheel, ...], paths: dict[str, Path], cache: Cache, progress: Progress
) -> Gpu | None:
    """Derive what the image needs of GPUs; refuse what would bring the driver's own library."""
    from launcher.resolve.gpu import BaseFacts, derive, refuse_driver

    found = system.found
    refuse_driver(wheels, system.debs, paths, found.tree if found else None, progress)
    there = {one.name: one.version for one in found.installed} if found else {}
    return derive(wheels, paths, BaseFacts.of(found.env, found.tree, there) if found else None, cache, progress)


def architecture_of(spec: Spec) -> str:
    try:
        return ARCHITECTURES[spec.image.platform]
    except KeyError:
        known = " and ".join(ARCHITECTURES)
        raise ResolveError(f"no image can be made for `{spec.image.platform}`", hint=f"known are {known}") from None


def packages(
    spec: Spec,
    asked: Asked,
    architecture: str,
    previous: Lock | None,
    upgrade: Upgrade,
    builds: Builds,
    cache: Cache,
    progress: Progress,
) -> tuple[System, tuple[Wheel, ...]]:
    """Resolve the system, and Python for what it gives.

    When there is a lock already, its Python and libc are most likely those that come out again: then both are asked
    at the same time, which halves the time of a lock that changes nothing.
    """
    if found := base_of(spec, previous, upgrade, builds.workshop, cache, progress):
        system = over_base(found, spec, asked, architecture, previous, upgrade, cache, progress)
        return system, python(asked, target_of(system, architecture), previous, upgrade, builds, cache, progress, found)
    guess = likely(previous, architecture) if not spec.image.build.packages else None
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(python, asked, guess, previous, upgrade, builds, cache, progress) if guess else None
        system = debian(spec, architecture, previous, upgrade, cache, progress)
        target = target_of(system, architecture)
        if early and guess == target:
            return system, early.result()
    return system, python(asked, target, previous, upgrade, builds, cache, progress)


def base_of(
    spec: Spec,
    previous: Lock | None,
    upgrade: Upgrade,
    workshop: Workshop | None,
    cache: Cache,
    progress: Progress,
) -> Resolved | None:
    """Return the base that isn't our own Debian, in the cache and looked into; None for our own."""
    if spec.image.containerfile:
        from launcher.resolve.containerfile import resolve_containerfile

        return resolve_containerfile(spec.image, previous, upgrade, workshop, cache=cache, progress=progress)
    if not spec.image.base.startswith(REGISTRY):
        return None
    from launcher.resolve.base import resolve_base

    return resolve_base(
        spec.image.base,
        spec.image.platform,
        previous,
        upgrade,
        cache=cache,
        python=spec.image.python,
        progress=progress,
    )


def target_of(system: System, architecture: str) -> Target | None:
    if system.python is None:
        return None
    return Target(python=system.python, libc=system.libc, architecture=architecture)


def likely(previous: Lock | None, architecture: str) -> Target | None:
    if previous is None or previous.python is None or previous.base:
        return None
    return Target(python=previous.python, libc=previous.libc, architecture=architecture)


def python(
    asked: Asked,
    target: Target | None,
    previous: Lock | None,
    upgrade: Upgrade,
    builds: Builds,
    cache: Cache,
    progress: Progress,
    found: Resolved | None = None,
) -> tuple[Wheel, ...]:
    """Resolve the Python requirements for what the system has; `found` is its base, whose own packages count.

    What has no wheel is built first.
    """
    if target is None:
        return ()
    check_python(asked, target.python)
    indexes = configured(asked.options)
    built = builds.wheels(target.python, target.libc, target.architecture, indexes, cache, progress)
    with offered(built, indexes, cache) as places:
        wheels = resolve_python(
            asked.requirements,
            constraints=(*asked.constraints, *pins(built)),
            python=target.python,
            libc=target.libc,
            architecture=target.architecture,
            previous=previous.wheels if previous else (),
            upgrade=upgrade,
            indexes=places,
            installed=found.installed if found else (),
            cache=cache,
            progress=progress,
        )
    wheels = marked(wheels, built)
    for wheel in (each for each in built if each not in wheels):
        progress.note(f"{wheel.name} is named under image.build.packages, and nothing requires it: it is left out")
    check_hashes(asked, wheels)
    if found:
        tell_hidden(found, wheels, progress)
    return wheels


def tell_hidden(found: Resolved, wheels: tuple[Wheel, ...], progress: Progress) -> None:
    """Tell which packages the image doesn't have though its base has them: those of the base's own /opt/env."""
    from launcher.resolve.base import hidden

    has = {wheel.name for wheel in wheels} | {each.name for each in found.installed}
    if lost := [f"{each.name} {each.version}" for each in hidden(found.tree) if each.name not in has]:
        named = ", ".join(lost[:NAMED_AT_MOST]) + (" ..." if len(lost) > NAMED_AT_MOST else "")
        progress.note(f"the base has its own /opt/env, which the image's hides: ask for what you need of it ({named})")


def check_python(asked: Asked, python: str) -> None:
    """Raise ResolveError when the project says that it doesn't run on the image's Python."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = not asked.requires_python or SpecifierSet(asked.requires_python).contains(python, prereleases=True)
    except InvalidSpecifier as e:
        raise ResolveError(f"requires-python of the pyproject.toml is not a version specifier: {e}") from e
    if not fits:
        message = f"the project requires Python {asked.requires_python}, and the image has {python}"
        raise ResolveError(message, hint="take another base, or change requires-python")


def check_hashes(asked: Asked, wheels: tuple[Wheel, ...]) -> None:
    """Raise IntegrityError when a requirements file allows other files than the ones that were chosen."""
    wrong = [w for w in wheels if w.name in asked.hashes and w.sha256 not in asked.hashes[w.name]]
    if wrong:
        hint = "make its hashes anew, for this platform too, or leave them out: a lock has its own"
        message = "{}: the requirements file doesn't allow {} with sha256 {}"
        found = (Problem(message=message.format(w.name, w.filename, w.sha256), hint=hint) for w in wrong)
        raise IntegrityError.of(found)
