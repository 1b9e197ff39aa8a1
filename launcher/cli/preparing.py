"""From a spec to a plan and the things that it names, for a target that is another machine: nothing is sent yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import TargetError, UsageError
from launcher.store import folder_of, keys

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.code import Code
    from launcher.image import Image
    from launcher.inputs import Staged
    from launcher.job import Job
    from launcher.job.sweeps import Plan
    from launcher.lock import Lock
    from launcher.profiles import Profile
    from launcher.progress import Progress
    from launcher.spec.model import Spec
    from launcher.store.access import Access
    from launcher.store.objects import Store
    from launcher.sweep import Point


@dataclass(frozen=True, kw_only=True)
class Freight:
    """What the nodes need of a plan, as it lies on this machine. `code` is the archive, `data` maps names to paths."""

    image: Image
    code: Path
    data: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What runs of a spec are made of, as it lies on this machine."""

    image: Image
    code: Code
    data: Mapping[str, Staged]
    pins: Mapping[str, str]  # the sha256 of each input, by its name


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A plan that is ready to be submitted; `lock` and `patch` are kept in the store before that."""

    plan: Plan
    freight: Freight
    lock: Lock
    patch: tuple[str, Path] | None = None


def refuse_unreachable_store(profile: Profile, access: Access) -> None:
    """Raise TargetError for a store in a folder that the nodes surely or probably don't see.

    A node would make an empty folder of that name, and believe that it is the store.
    """
    folder = folder_of(access.url)
    if folder is None:
        if access.url.startswith("memory:"):
            raise TargetError("a store in memory is this process's alone", hint="name a bucket, or a shared folder")
        return
    hint = "name a bucket by --store or `store:`"
    if profile.host is not None:
        raise TargetError(f"the store {folder} is a folder of this machine, and {profile.name} is another", hint=hint)
    if not same_file_system(Path(folder), Path(profile.shared)):
        hint += f", or a folder below {profile.shared}"
        raise TargetError(f"the store {folder} is not on the file system that the nodes share", hint=hint)


def same_file_system(one: Path, other: Path) -> bool:
    """Tell whether two folders, or what is nearest above them, are on one file system, or one is in the other."""
    if one.resolve().is_relative_to(other.resolve()):
        return True
    return nearest(one).stat().st_dev == nearest(other).stat().st_dev


def nearest(folder: Path) -> Path:
    folder = folder.absolute()
    return folder if folder.exists() else nearest(folder.parent)


def prepared(
    path: Path | None,
    words: Sequence[str],
    profile: Profile,
    spec_and_lock: tuple[Spec, Lock],
    opened: Store,
    access: Access,
    cache: Cache,
    progress: Progress,
) -> Ready:
    """Build the image, take the snapshot of the code, bring the inputs, and plan the points.

    Raises TargetError, before anything is built, with every reason why the target can't serve the spec.
    """
    from launcher.cli import execution
    from launcher.cli.inputs import paths
    from launcher.job import overridden, plan
    from launcher.job.sweeps import Plan
    from launcher.lock import digest
    from launcher.records.writing import user
    from launcher.sweep import expand

    spec, lock = spec_and_lock
    points, overrides = expand(spec), overridden(words, spec.params)
    now, entropy = execution.moment()

    def planned(image: str, code: str, points: Sequence[Point], data: Mapping[str, str]) -> list[Job]:
        made = {"lock": digest(lock), "image": image, "code": code}
        return plan(spec, **made, now=now, entropy=entropy, data=data, overrides=overrides, gpu=lock.gpu, points=points)

    refuse_unfit(planned("", "", points[:1], {})[0], lock, profile, spec.image.platform)
    for note in found_wrong(profile):
        progress.note(note)
    got = gathered(spec, spec, lock, opened, access, cache, progress)
    jobs = planned(got.image.id, got.code.digest, points, got.pins)
    made = Plan.of(jobs, spec, when=now, who=user(), code_facts=got.code.facts())
    freight = Freight(image=got.image, code=got.code.archive, data=paths(got.data))
    return Ready(plan=made, freight=freight, lock=lock, patch=got.code.patch)


def gathered(
    whole: Spec, spec: Spec, lock: Lock, opened: Store, access: Access, cache: Cache, progress: Progress
) -> Gathered:
    """Bring the inputs, build the image, take the snapshot of the code.

    `whole` says what belongs to the code: the spec with its sweep, if it has one; `spec` may be one point of that.
    """
    from launcher.cli import execution, inputs, interpreter, pipeline
    from launcher.code import snapshot

    pins, sources = {pin.name: pin for pin in lock.data}, {data.name: data for data in spec.data}
    found = inputs.bring(pins, sources, cache, opened, progress)
    image = pipeline.expected(lock, pipeline.built(lock, cache, progress, spec=spec))
    interpreter.refuse_without_python(lock, cache)  # only now surely in the cache
    code = snapshot(inputs.code_of(whole, progress), cache, skip=execution.store_folder(access))
    for note in code.notes:
        progress.note(note)
    return Gathered(image=image, code=code, data=found, pins={name: pin.sha256 for name, pin in pins.items()})


def refuse_unfit(job: Job, lock: Lock, profile: Profile, platform: str) -> None:
    """Raise TargetError with every reason why a target can't serve a job."""
    from launcher.gpu.table import Toolkits
    from launcher.lock.toolkits import toolkits
    from launcher.profiles.fit import refusals

    table = toolkits() if job.resources.gpus.count else Toolkits()
    architecture = platform.rpartition("/")[2]
    if problems := refusals(job, lock.gpu, profile, architecture=architecture, toolkits=table):
        raise TargetError.of(problems)


def found_wrong(profile: Profile) -> Iterator[str]:
    """Yield what doctor found that runs on a cluster may fail for, in notes: it looked at one node of each partition,
    and perhaps long ago, so nothing is refused for it."""
    for one in profile.warnings:
        if one.refused:
            seen = f"`launcher doctor {profile.name}` found at {profile.seen} what runs may fail for"
            yield f"note: {seen}: {one.says}{f'; {one.hint}' if one.hint else ''}"


def keep(ready: Ready, opened: Store) -> None:
    """Put into the store what records name by digest: the lock, the code, its patch."""
    keep_named(ready.plan.shared, ready.lock, ready.freight.code, ready.patch, opened)


def keep_named(job: Job, lock: Lock, code: Path, patch: tuple[str, Path] | None, opened: Store) -> None:
    """Put into the store what a job names by digest: the lock, the code, its patch."""
    from launcher.cli import execution
    from launcher.lock import dumps

    execution.keep(opened, keys.lock(job.lock), dumps(lock).encode())
    for sha256, archive in [(job.code, code), *([patch] if patch else [])]:
        execution.keep(opened, keys.artifact(sha256), archive)


def settled(made: Plan, opened: Store, again: bool) -> Plan:
    """Write the plan, and return it or the one that is there already for the same points; `again` makes a new sweep."""
    from launcher.records import sweeps

    return sweeps.settle(opened, foreseen(made, opened, again))


def foreseen(made: Plan, opened: Store, again: bool) -> Plan:
    """Return the plan that `settled` would return; nothing is written."""
    from launcher.records import sweeps

    if again:
        number = 2
        while opened.exists(keys.plan(made.numbered(number).sweep)):
            number += 1
        return made.numbered(number)
    return sweeps.plan(opened, made.sweep) if opened.exists(keys.plan(made.sweep)) else made


def brought_back(plan: Plan, opened: Store, cache: Cache, progress: Progress, given: Mapping[str, Path]) -> Freight:
    """Bring back what a plan names, from its lock and its code in the store, for a sweep that is taken up again.

    Raises a LauncherError of what is missing or different.
    """
    from launcher.cli import rerun
    from launcher.cli.inputs import paths

    got = rerun.brought_back(plan.shared, opened, cache, progress, given, name=plan.sweep)
    return Freight(image=got.image, code=got.code, data=paths(got.data))


def refuse_wrong_kind(profile: Profile) -> None:
    """Raise UsageError for a target that takes no sweeps."""
    if profile.kind != "slurm":
        hint = f"`launcher run SPEC --on {profile.name}` runs a spec there; --point N one point of a sweep"
        raise UsageError(f"{profile.name} is no Slurm cluster, but a box that is reached by SSH", hint=hint)


def with_store(spec: Spec, place: str | None, profile: Profile) -> Spec:
    """Return the spec with the store that counts: the command line's, the spec's, the target's."""
    return replace(spec, store=place or spec.store or profile.store)
