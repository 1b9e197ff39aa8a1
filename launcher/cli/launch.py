"""A spec, or a recorded run, to a box: refused early, gathered here, brought there, started; then followed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.cache import Cache
from launcher.cli.output import print_json
from launcher.cli.progress import choose_progress
from launcher.cli.settings import settings
from launcher.errors import LauncherError, StoreError, TargetError, UsageError

if TYPE_CHECKING:
    from launcher.image import Image
    from launcher.job import Job
    from launcher.lock import Lock
    from launcher.profiles import Profile
    from launcher.progress import Progress
    from launcher.remote import Shell
    from launcher.spec.model import Spec
    from launcher.ssh.launching import Launched
    from launcher.store.access import Access
    from launcher.store.objects import Store


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    spec: Path | None
    params: tuple[str, ...] = ()
    place: str | None = None
    frozen: bool = False
    point: int | None = None


@dataclass(frozen=True, kw_only=True)
class Load:
    """A job with everything that it names, as it lies on this machine."""

    job: Job
    image: Image
    code: Path
    data: Mapping[str, Path]
    origins: Mapping[str, str]
    facts: Mapping[str, object] | None
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where it goes: the box, the way there, and the store that the person named."""

    profile: Profile
    shell: Shell
    opened: Store
    access: Access
    cache: Cache
    progress: Progress


def box(target: str, runtime: str | None = None) -> Profile:
    """Return the profile of a box. Raises UsageError for a target that is none, with what to type instead."""
    from launcher.profiles import load

    profile = load(target)
    if profile.kind != "ssh":
        hint = f"`launcher submit SPEC --on {target}` submits it; `launcher wait` waits for its end"
        raise UsageError(f"{target} is a Slurm cluster, which has a queue", hint=hint)
    return replace(profile, runtime=runtime) if runtime else profile


def run_spec_on(target: str, asked: Asked, runtime: str | None, detach: bool, as_json: bool) -> int:
    """Run a spec, or one point of its sweep, on a box; return the command's exit code, or 0 once it is detached."""
    from launcher import spec as specs
    from launcher.cli import execution, pipeline, preparing
    from launcher.cli.run import finish_point, one_run

    profile, cache, progress = box(target, runtime), Cache(), choose_progress()
    path = pipeline.given(asked.spec)
    first = one_run(specs.load(path), asked.point, path)  # refused before anything is asked
    with reached(profile, preparing.with_store(first, asked.place, profile).store) as (shell, looked):
        if not pipeline.lock_path(path).exists():
            looked.result()  # locking takes its time, and would be in vain
        whole, lock = pipeline.locked(path, cache, progress, frozen=asked.frozen)
        spec = preparing.with_store(one_run(whole, asked.point, path), asked.place, profile)
        opened, access = execution.open_store(spec.store)
        way = Way(profile=looked.result(), shell=shell, opened=opened, access=access, cache=cache, progress=progress)
        load = loaded(whole, spec, lock, asked.params, way)
        ended = sent(load, way, detach=detach, as_json=as_json)
    if not detach:
        finish_point(whole, load.job, opened, ended)
    return ended


def loaded(whole: Spec, spec: Spec, lock: Lock, params: tuple[str, ...], way: Way) -> Load:
    """Gather what a spec's run is made of, and keep in the store what its record names.

    Raises TargetError, before anything is built, with every reason why the box can't run it.
    """
    from launcher.cli import execution, preparing
    from launcher.cli.inputs import origins, paths
    from launcher.job import overridden, plan
    from launcher.lock import digest

    now, entropy = execution.moment()
    overrides, locked = overridden(params, whole.params), digest(lock)

    def planned(image: str, code: str, data: Mapping[str, str]) -> Job:
        made = partial(plan, spec, now=now, entropy=entropy, overrides=overrides, gpu=lock.gpu)
        [job] = made(lock=locked, image=image, code=code, data=data)
        return job

    refuse(planned("", "", {}), lock, way.profile, spec.image.platform, way.access)
    got = preparing.gathered(whole, spec, lock, way.opened, way.access, way.cache, way.progress)
    job = planned(got.image.id, got.code.digest, got.pins)
    preparing.keep_named(job, lock, got.code.archive, got.code.patch, way.opened)
    return Load(
        job=job,
        image=got.image,
        code=got.code.archive,
        data=paths(got.data),
        origins=origins(got.data),
        facts=got.code.facts(),
    )


@contextlib.contextmanager
def reached(profile: Profile, store: str | None) -> Iterator[tuple[Shell, Future[Profile]]]:
    """Give the way to a box, and what a look at it tells now: asked beside whatever is done until that is needed.

    `store` is where runs go: whether the box reaches its server is asked, too. The look raises TargetError where there
    is no way there.
    """
    from launcher import remote
    from launcher.cli.doctor import endpoint
    from launcher.profiles.box_doctor import glance
    from launcher.store import default_url

    pool = ThreadPoolExecutor(1)
    with contextlib.closing(remote.open(profile)) as shell:
        try:
            yield shell, pool.submit(glance, shell, profile, endpoint=endpoint(store or default_url()))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def refuse(job: Job, lock: Lock, profile: Profile, platform: str, access: Access) -> None:
    """Raise TargetError with every reason why a box can't run a job, before anything is built or sent."""
    from launcher.access import reach
    from launcher.cli.preparing import refuse_unfit

    refuse_unfit(job, lock, profile, platform)
    answer = reach(access)
    if answer.verdict == "refused":
        raise TargetError(answer.says, hint=answer.hint)


def sent(load: Load, way: Way, *, detach: bool, as_json: bool) -> int:
    """Bring a job to a box and start it; follow it there unless it is detached. Return the exit code.

    From the start on, Ctrl-C lets go of the run at any moment, also before there is anything to follow.
    """
    from launcher.cli.attaching import LetGo, attached, let_go, letting_go

    started = launched(load, way)
    try:
        with letting_go(for_good=True):
            keep_named(load, way)
            tell(started, way, load, detach, as_json)
            if detach:
                return 0
            return attached(
                way.profile,
                started.run,
                way.opened,
                shell=way.shell,
                tools=started.tools,
                fresh=True,
                attempt=load.attempt,
                as_json=as_json,
            )
    except LetGo as e:
        let_go(way.profile, started.run, way.opened)
        return 128 + e.number


def keep_named(load: Load, way: Way) -> None:
    """Keep in the vault what a run that has begun is made of. A hiccup now is no reason not to run."""
    from launcher import vault
    from launcher.cli.execution import artifacts

    with contextlib.suppress(StoreError):
        vault.stay(artifacts(load.job, load.code, way.cache, load.facts), way.opened, way.progress)


def launched(load: Load, way: Way) -> Launched:
    """Bring a job to a box and start it. What can't be started, or is interrupted before, is told to the store."""
    from launcher.cli.attaching import LetGo, letting_go

    try:
        with letting_go():
            started = launch(load, way)
    except LetGo as e:
        give_up(load, way, "it was interrupted before it had started")
        raise click.exceptions.Exit(128 + e.number) from None
    except LauncherError as e:
        give_up(load, way, f"it could not be started: {e.problems[0].message}")
        raise
    return started


def launch(load: Load, way: Way) -> Launched:
    from launcher.ssh import launching

    return launching.launch(
        way.shell,
        way.profile,
        job=load.job,
        image=load.image,
        code=load.code,
        data=load.data,
        opened=way.opened,
        access=way.access,
        cache=way.cache,
        code_facts=load.facts,
        attempt=load.attempt,
        origins=load.origins,
        progress=way.progress,
    )


def give_up(load: Load, way: Way, why: str) -> None:
    """Tell the store that an attempt will not begin, if it was queued and the box surely doesn't have it."""
    from launcher import records
    from launcher.cli.attaching import let_go
    from launcher.ssh.states import states
    from launcher.store import keys

    run = load.job.run
    if not way.opened.exists(keys.event(run, load.attempt, 0)):
        return
    try:
        found = states(way.profile, [run], shell=way.shell)
    except LauncherError:
        click.echo(
            f"note: whether {run} has begun on {way.profile.name} nobody knows; `launcher status` asks", err=True
        )
        return
    begun = any(one.attempt in (None, load.attempt) or not one.over for one in found)
    if not begun:
        records.end_for_dead(way.opened, run, load.attempt, why)
    if begun:
        let_go(way.profile, run, way.opened)
    elif not settings().quiet:
        click.echo(f"{run} did not begin on {way.profile.name}: {why}", err=True)


def tell(started: Launched, way: Way, load: Load, detach: bool, as_json: bool) -> None:
    """Say in one line that it is there, and how to come back."""
    from launcher.cli.execution import named_store

    if detach and as_json:
        print_json(told(started, way, load))
        return
    if settings().quiet:
        return
    for note in started.notes:
        way.progress.note(note)
    back = f"launcher attach {started.run}{named_store(way.opened)}"
    how = f"`{back}` follows it" if detach else f"Ctrl-C lets go of it, `{back}` comes back"
    click.echo(f"{started.run} on {way.profile.name}: {words(started)}; {how}", err=True)


def words(started: Launched) -> str:
    from launcher.cli.attaching import phase

    if started.state.over or started.state.place is not None:
        return phase(started.state)
    return "started"


def told(started: Launched, way: Way, load: Load) -> dict[str, Any]:
    return {
        "run": started.run,
        "target": way.profile.name,
        "attempt": load.attempt,
        "ship": started.ship,
        "state": started.state,
        "notes": list(started.notes),
    }
