"""Assemble an image from a lock's artifacts: nothing is executed, nobody is asked, and what is done stays done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import FetchError, Problem
from launcher.image import wheel as wheels
from launcher.image.base.layers import base_layers, base_tree
from launcher.image.base.placing import over_base, placed
from launcher.image.base.tree import BaseTree
from launcher.image.debian_layers import debian_layers
from launcher.image.interop import runtime_plan
from launcher.image.kept import note_layers, note_of, noted_layer, noted_layers
from launcher.image.keys import debian_key
from launcher.image.layers import LayerPlan, WheelFiles, refuse_too_many, skeleton, solo_layers, wheel_layers
from launcher.image.listing import listing_bytes
from launcher.image.oci import NOTHING, Layer
from launcher.image.tar import write_layer
from launcher.lock.model import Artifact, Deb, Lock
from launcher.progress import Progress, Task

THREADS_PER_LAYER = 2  # one inflates and writes, one hashes; more layers at once than cores bear only wait


def assemble(
    lock: Lock, cache: Cache, workers: int, progress: Progress, base_env: Mapping[str, str] = NOTHING
) -> list[Layer]:
    """Make whatever layers of a lock the cache lacks; return all of them in stacking order."""
    paths = artifact_paths(lock.artifacts, cache)
    below = base_layers(lock.base, paths, cache, progress) if lock.base else []
    tree = base_tree(lock.base, cache) if lock.base else None
    debs = [(deb, paths[deb.sha256]) for deb in lock.debs]
    key = debian_key(lock)
    debian = noted_layers(cache, key)
    with cache.scratch() as scratch:
        with ThreadPoolExecutor(1) as beside:  # xz lets go of the interpreter's lock while wheels are listed
            planned = beside.submit(wheel_plans, lock, paths, tree)
            debian_plans = debian_plans_of(lock, debs, tree, scratch, workers) if debian is None else []
            runtime = runtime_plan(lock, tree, base_env)
            plans = [*planned.result(), placed(runtime, tree) if tree else runtime]
        made = write_layers([*plans, *debian_plans], cache, scratch, workers, progress)
    if debian is None:
        debian = [made[plan.key] for plan in debian_plans]
        note_layers(cache, key, debian)
    refuse_too_many(len(below) + len(debian) + len(plans))
    return stacked([*below, *debian, *(made[plan.key] for plan in plans)])


def debian_plans_of(
    lock: Lock, debs: Sequence[tuple[Deb, Path]], tree: BaseTree | None, scratch: Path, workers: int
) -> list[LayerPlan]:
    """Plan the layers of the Debian packages; over a base that lacks none there are none."""
    if tree is not None and not debs:
        return []
    return debian_layers(debs, scratch, workers, tree, solo_layers(len(lock.base.layers) if lock.base else 0))


def stacked(layers: Sequence[Layer]) -> list[Layer]:
    """Put layers in stacking order: by rank, the big ones by size; names and digests only break ties."""
    return sorted(layers, key=lambda x: (x.rank, -x.size, x.name, x.diff_id))


def write_layers(
    plans: Sequence[LayerPlan], cache: Cache, scratch: Path, workers: int, progress: Progress
) -> dict[str, Layer]:
    """Make the layers, the biggest first; return them by their plan's key."""
    ordered = sorted(plans, key=lambda plan: -plan.size)
    at_once = max(1, workers // THREADS_PER_LAYER)
    with progress.task("assembling", sum(plan.size for plan in plans)) as task, ThreadPoolExecutor(at_once) as pool:
        layers = pool.map(lambda plan: layer(plan, cache, scratch, task), ordered)
        return {plan.key: made for plan, made in zip(ordered, layers, strict=True)}


def artifact_paths(artifacts: Sequence[Artifact], cache: Cache) -> dict[str, Path]:
    """Return where each artifact lies, by sha256; raises FetchError that names every one that is missing."""
    found = {a.sha256: cache.find("artifacts", a.sha256) for a in artifacts}
    missing = [Problem(message=f"{a.filename} isn't in the cache") for a in artifacts if found[a.sha256] is None]
    if missing:
        raise FetchError.of(missing)
    return {sha256: path for sha256, path in found.items() if path}


def wheel_plans(lock: Lock, paths: dict[str, Path], tree: BaseTree | None = None) -> list[LayerPlan]:
    """Plan the layers of the Python environment; none when the image has no Python."""
    if not lock.python:
        return []
    python = ".".join(lock.python.split(".")[:2])
    files = [WheelFiles(wheel=w, entries=tuple(wheels.read(paths[w.sha256], w.filename, python))) for w in lock.wheels]
    venv = skeleton(python, lock.python, lock.interpreter, base_has_python(lock))
    plans = wheel_layers(files, venv, python, solo_layers(len(lock.base.layers) if lock.base else 0))
    return plans if tree is None else over_base(plans, tree)


def base_has_python(lock: Lock) -> bool:
    """Tell whether the interpreter is the base's own, with packages that count, and not one of the .debs."""
    debs = {deb.name for deb in lock.debs}
    return lock.base is not None and not any(f"python{x}-minimal" in debs for x in short(lock.python))


def short(version: str | None) -> list[str]:
    """Return X.Y of a full version."""
    return [".".join(version.split(".")[:2])] if version else []


def layer(plan: LayerPlan, cache: Cache, scratch: Path, task: Task) -> Layer:
    """Return one layer, from the cache if it is there whole, else written anew."""
    if made := noted_layer(cache, cache.note("layers", plan.key)):
        task.advance(plan.size)
        return made
    return write(plan, cache, scratch, task)


def write(plan: LayerPlan, cache: Cache, scratch: Path, task: Task) -> Layer:
    """Write a layer and its listing into the cache, then the note that says so."""
    entries = plan.entries()
    part = scratch / f"{plan.key}.layer"
    written = write_layer(entries, part, task.advance)
    task.advance(plan.size - written.size)  # headers and padding were counted too
    listing = keep_listing(listing_bytes(entries, written.checksums), cache, scratch / f"{plan.key}.listing")
    path = cache.adopt("blobs", written.diff_id, part)
    made = Layer(rank=plan.rank, name=plan.name, diff_id=written.diff_id, size=written.size, listing=listing, path=path)
    cache.write_note("layers", plan.key, note_of(made))
    return made


def keep_listing(listing: bytes, cache: Cache, part: Path) -> str:
    digest = sha256_bytes(listing)
    part.write_bytes(listing)
    cache.adopt("artifacts", digest, part)
    return digest
