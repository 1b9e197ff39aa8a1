"""Build at lock time what has no wheel: in an image of ours, from a source whose hash was checked, and only once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.cache import Cache
from launcher.errors import ResolveError
from launcher.indexes.settings import Indexes
from launcher.lock.inputs import inputs
from launcher.lock.model import Lock, Wheel
from launcher.lock.requirements import Asked
from launcher.progress import Progress
from launcher.resolve.platform import Platform, numbers, platform
from launcher.resolve.sdist import order
from launcher.resolve.upgrade import Upgrade
from launcher.resolve.workshop import Order, Workshop
from launcher.spec.model import Build, GpuSpec, Pip, Spec

HEADERS = "python3-dev"
NO_WORKSHOP = "`launcher lock` builds it"
Resolver = Callable[[Spec], Lock]


@dataclass(frozen=True, kw_only=True)
class Builds:
    """What a spec wants built, and all that building takes. `resolver` makes the lock of a builder's spec."""

    spec: Spec
    asked: Asked
    previous: Lock | None
    upgrade: Upgrade
    workshop: Workshop | None
    resolver: Resolver

    def wheels(
        self, python: str, libc: str, architecture: str, indexes: Indexes, cache: Cache, progress: Progress
    ) -> tuple[Wheel, ...]:
        """Return a wheel in the cache for each of `image.build.packages`. Raises ResolveError, FetchError."""
        if not (names := sorted(set(self.spec.image.build.packages))):
            return ()
        target = platform(python, libc, architecture)
        return tuple(self.wheel(name, target, libc, indexes, cache, progress) for name in names)

    def wheel(
        self, name: str, target: Platform, libc: str, indexes: Indexes, cache: Cache, progress: Progress
    ) -> Wheel:
        lines = (*self.asked.requirements, *self.asked.constraints)
        old = self.kept(name, target)
        version = old.version if old else None
        made, requires = order(name, lines, target, indexes, version, cache, progress)
        if old and old.sdist == made.sdist.sha256 and cache.find("artifacts", old.sha256):
            return old
        if self.workshop is None:
            raise ResolveError(f"{name} {made.version} has to be built from source first", hint=NO_WORKSHOP)
        progress.note(f"{made.name} {made.version} is built from source")
        return self.built(made, requires, libc, self.workshop)

    def built(self, made: Order, requires: tuple[str, ...], libc: str, workshop: Workshop) -> Wheel:
        """Build in an image that has what the backend needs; the backend itself may ask for more (PEP 517)."""
        builder = self.builder(made, requires, libc)
        more = workshop.build_requirements(made, builder)
        if set(more) - set(requires):
            builder = self.builder(made, (*requires, *more), libc)
        return workshop.wheel(made, builder)

    def builder(self, made: Order, requires: tuple[str, ...], libc: str) -> Lock:
        lock = self.resolver(builder_spec(self.spec, requires, made.platform))
        check_builder(lock, made, libc)
        return lock

    def kept(self, name: str, target: Platform) -> Wheel | None:
        """Return the wheel that the previous lock has, when it was built for the same image in the same way."""
        before, now = self.previous, inputs(self.spec, self.asked)
        if before is None or self.upgrade.all or name in self.upgrade.packages:
            return None
        same = ("base", "containerfile", "platform", "build_apt", "build_base")
        if before.python != target.python_version or any(getattr(before.inputs, k) != getattr(now, k) for k in same):
            return None
        return next((wheel for wheel in before.wheels if wheel.name == name and wheel.sdist), None)


def builder_spec(spec: Spec, requires: Sequence[str], target: Platform) -> Spec:
    """Return the spec of the image that wheels are built in: the image itself or the base that was named, with the
    build requirements, the headers of Debian's Python, and `image.build.apt`."""
    image, build = spec.image, spec.image.build
    base = build.base or image.base
    own = base.startswith("debian:") and (build.base is not None or image.containerfile is None)
    apt = (*([HEADERS] if own else []), *([] if build.base else image.apt), *build.apt)
    inside = replace(
        image,
        base=base,
        containerfile=None if build.base else image.containerfile,
        apt=tuple(dict.fromkeys(apt)),
        python=".".join(map(str, target.python[:2])),
        pip=Pip(requirements=tuple(requires)),
        build=Build(),
        cuda=None,
        cudnn=None,
    )
    return replace(spec, image=inside, data=(), gpu=GpuSpec())


def check_builder(lock: Lock, made: Order, libc: str) -> None:
    """Raise ResolveError when what is built there can't run in the image."""
    if lock.python is None or numbers(lock.python)[:2] != made.platform.python[:2]:
        wanted = ".".join(map(str, made.platform.python[:2]))
        raise ResolveError(
            f"{made.name} would be built for Python {lock.python}, and the image has {wanted}",
            hint="name another `image.build.base`, or leave it out",
        )
    if version_of(lock.libc) > version_of(libc):
        raise ResolveError(
            f"{made.name} would be built against {lock.libc}, and the image has only {libc}",
            hint="name a `image.build.base` that is no newer than the image's own",
        )


def version_of(libc: str) -> tuple[int, ...]:
    return tuple(int(part) for part in libc.rpartition(" ")[2].split(".") if part.isdigit())


@contextlib.contextmanager
def offered(wheels: Sequence[Wheel], indexes: Indexes, cache: Cache) -> Iterator[Indexes]:
    """Give indexes that have these wheels, too: a find-links folder goes first. Links keep the cache's files alone."""
    if not wheels:
        yield indexes
        return
    with cache.scratch() as scratch:
        folder = scratch / "built"
        folder.mkdir()
        for wheel in wheels:
            (folder / wheel.filename).symlink_to(Path(cache.path("artifacts", wheel.sha256)).absolute())
        yield replace(indexes, find_links=(str(folder), *indexes.find_links))


def pins(wheels: Sequence[Wheel]) -> tuple[str, ...]:
    """Return constraints that leave only these versions: one from an index would not be the one that was built."""
    return tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels)


def marked(chosen: Sequence[Wheel], built: Sequence[Wheel]) -> tuple[Wheel, ...]:
    """Say of the chosen wheels that were built what they were built from."""
    by_digest = {wheel.sha256: wheel for wheel in built}
    return tuple(by_digest.get(wheel.sha256, wheel) for wheel in chosen)
