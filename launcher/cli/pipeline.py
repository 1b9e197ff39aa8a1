"""The stops that several verbs share: a spec to its lock, a lock to its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import Cache, disk_full, written_whole
from launcher.cli.executed import bring_back, lost_for_good, missing
from launcher.errors import FetchError, LockError, Problem, ResolveError, UsageError
from launcher.image import Image, build
from launcher.image.keys import ASSEMBLER
from launcher.lock import ImagePin, LayerPin, Lock, dumps, load
from launcher.progress import Progress

if TYPE_CHECKING:
    from launcher.indexes.source import Source
    from launcher.resolve.upgrade import Upgrade
    from launcher.spec.model import Spec

SPEC = "experiment.yaml"
LOCK_FULL = "free some; the lock is as it was before"
UNWRITABLE = "a lock lies beside its spec: make the folder writable, or copy the spec to a folder of yours"


def lock_path(spec: Path) -> Path:
    """Return where a spec's lock lies: `experiment.lock` beside `experiment.yaml`. Raises UsageError for a lock."""
    if spec.suffix == ".lock":
        raise UsageError(f"{spec} is a lock, and a spec is wanted", hint=f"name {spec.with_suffix('.yaml')}")
    return spec.with_suffix(".lock")


def locked(
    path: Path, cache: Cache, progress: Progress, *, frozen: bool = False, inputs: bool = True
) -> tuple[Spec, Lock]:
    """Read a spec and its lock; lock anew when there is none, or it no longer fits and `frozen` isn't set.

    Raises LockError when inputs changed since; without `inputs` their sources aren't asked.
    """
    from launcher import spec as specs
    from launcher.lock.check import problems

    spec = specs.load(path)
    place = lock_path(path)
    if not place.exists():
        if frozen:
            raise LockError(f"there is no lock {place}", hint=f"`launcher lock {path}` makes it")
        progress.note(f"there is no {place.name} yet: locking")
        return spec, relock(spec, place, None, cache, progress)
    previous = load(place)
    asked = compared_inputs(previous, spec, path, cache, progress, inputs) if spec.data or previous.data else []
    if unfit := [*problems(previous, spec), *asked]:
        if frozen:
            raise LockError.of([*unfit, Problem(message="the lock no longer fits", hint=f"run `launcher lock {path}`")])
        progress.note(f"{place.name} no longer fits {path.name}: locking again")
        return spec, relock(spec, place, previous, cache, progress)
    return spec, previous


def compared_inputs(
    previous: Lock, spec: Spec, path: Path, cache: Cache, progress: Progress, ask: bool
) -> Sequence[Problem]:
    """Return what the spec asks of inputs and the lock hasn't got. Raises LockError when inputs changed since."""
    from launcher.cli.inputs import refuse_changed
    from launcher.inputs import fit

    found = fit(previous, spec, cache, progress, ask=ask)
    refuse_changed(found, path, progress)
    return found.asked


def relock(
    spec: Spec,
    place: Path,
    previous: Lock | None,
    cache: Cache,
    progress: Progress,
    upgrade: Upgrade | None = None,
    image: bool = True,
) -> Lock:
    """Resolve a spec, assemble its image to see that its parts agree, and write the lock if it changed.

    Raises ResolveError when what came out is not the CUDA, cuDNN, driver or GPUs that the spec asks for.
    """
    from launcher.lock.gpu import unmet
    from launcher.resolve import resolve
    from launcher.resolve.upgrade import Upgrade
    from launcher.workshop import OwnWorkshop

    wanted, workshop = upgrade or Upgrade(), OwnWorkshop(cache, progress)
    if previous and not wanted.all:
        bring_back(previous, spec, cache, progress)
    lock = resolve(spec, cache=cache, previous=previous, upgrade=wanted, progress=progress, workshop=workshop)
    if wanting := unmet(spec, lock):
        raise ResolveError.of(wanting)
    if image:
        lock = replace(lock, image=pin(build(lock, cache, progress=progress)))
    write_text(place, dumps(lock))
    return lock


def pin(image: Image) -> ImagePin:
    """Say in a lock's words what an image is."""
    layers = tuple(LayerPin(name=x.name, diff_id=x.diff_id, size=x.size, listing=x.listing) for x in image.layers)
    return ImagePin(assembler=ASSEMBLER, id=image.id, layers=layers)


def built(
    lock: Lock,
    cache: Cache,
    progress: Progress,
    *,
    spec: Spec | None = None,
    sources: Sequence[Source] | None = None,
) -> Image:
    """Return a lock's image, with artifacts that the cache lacks fetched from `sources`, or else from where this
    machine looks, from the indexes that the spec's requirements file names, and from the vault of its store."""
    if missing(lock.artifacts, cache):
        from launcher.fetch import fetch

        try:
            fetch(lock.artifacts, cache, usual_sources(spec, lock) if sources is None else sources, progress)
        except FetchError as e:
            raise FetchError.of([*e.problems, *lost_for_good(lock, cache)]) from e
    return build(lock, cache, progress=progress)


def usual_sources(spec: Spec | None, lock: Lock) -> Sequence[Source]:
    """Return where this machine looks; at last the vault of the spec's store, which may have what others forgot."""
    from launcher.cli.executed import last_resort
    from launcher.fetch import base_sources, default_sources
    from launcher.lock.inputs import asked_python

    options = asked_python(spec).options if spec else None
    return [*default_sources(options), *base_sources(lock), last_resort(spec.store if spec else None)]


def expected(lock: Lock, image: Image) -> Image:
    """Return the image if it is the one that its lock tells of.

    Raises LockError otherwise: a lock that was changed by hand, or one of another version of the assembler.
    """
    if lock.image is None or lock.image.id == image.id:
        return image
    raise LockError(
        f"the image of this lock is sha256:{image.id}, and the lock says sha256:{lock.image.id}",
        hint=why_another(lock.image),
    )


def why_another(pin: ImagePin) -> str:
    """Say why a lock gives another image than it says, as far as that can be told, and what to do."""
    if pin.assembler != ASSEMBLER:
        return (
            f"the lock was made by version {pin.assembler} of the assembler, and this launcher has {ASSEMBLER}: "
            "`launcher lock` writes the lock anew; the old image comes from the launcher that made it"
        )
    return "the lock was changed by hand? `launcher rebuild LOCK` says what differs; `launcher lock` writes it anew"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and not when nothing changes. A symbolic link is followed, and stays."""
    path = path.resolve()
    data = text.encode()  # UTF-8 whatever the locale is
    try:
        if path.exists() and path.read_bytes() == data:
            return
        with disk_full(path.parent, LOCK_FULL), written_whole(path) as part:
            part.write_bytes(data)
    except OSError as e:
        raise LockError(f"{path} can't be written: {e.strerror}", hint=UNWRITABLE) from e


def given_lock(path: Path) -> Path:
    """Return the lock that was named, or the one of the named folder. Raises UsageError for a spec."""
    if path.suffix in (".yaml", ".yml"):
        raise UsageError(f"{path} is a spec, and a lock is wanted", hint=f"name {lock_path(path)}")
    return lock_path(path / SPEC) if path.is_dir() else path


def given(path: Path | None) -> Path:
    """Return the spec that was named, or the one of the named folder, or of this one. Raises UsageError for none."""
    if path is not None and not path.is_dir():
        return path
    if not (found := (path or Path()) / SPEC).exists():
        raise UsageError(f"there is no {SPEC} in {path or 'this folder'}", hint="`launcher init` writes one")
    return found
