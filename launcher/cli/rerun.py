"""`launcher rerun`, and `launcher run --resume`: a recorded run again, from its record alone.

Job, lock and code come from the store; the image is built from the lock, with artifacts from cache, vault or index;
inputs are found where --data says, on this node, in the store, or where this machine had the same bytes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher import target as targets
from launcher.cache import Cache
from launcher.cli import execution, pipeline
from launcher.cli.output import HERE, json_option, runtime_option
from launcher.cli.progress import choose_progress
from launcher.errors import (
    IntegrityError,
    LockError,
    ObjectMissingError,
    StoreError,
    TargetError,
    UsageError,
)
from launcher.job import Job, again, from_json
from launcher.store import keys
from launcher.store.credentials import moment
from launcher.target.model import StillRunning

if TYPE_CHECKING:
    from launcher.image import Image
    from launcher.inputs import Staged
    from launcher.lock import Lock
    from launcher.progress import Progress
    from launcher.records import Attempt, Record
    from launcher.store.access import Access
    from launcher.store.objects import Store
    from launcher.target.local import Local
    from launcher.target.model import Work

ELSEWHERE = "name its store by --store"
SILENT_S = {"running": 30.0, "queued": 120.0}  # a heartbeat comes every 20 s; before the first one things are copied


@click.command("rerun")
@click.argument("run_id", metavar="RUN")
@click.option("--on", "target", metavar="TARGET", help="A box (default: this machine).")
@click.option("-d", "--detach", is_flag=True, help="On a box: return when it has been started there.")
@click.option("--data", "words", multiple=True, metavar="NAME=PATH", help="Where an input is now.")
@runtime_option
@click.option("--store", "place", metavar="URL", help="The store that has the record (default: $LAUNCHER_STORE).")
@json_option
@click.pass_context
def rerun(
    ctx: click.Context,
    run_id: str,
    target: str | None,
    detach: bool,
    words: tuple[str, ...],
    runtime: str | None,
    place: str | None,
    as_json: bool,
) -> None:
    """Run RUN again as a new run, from its record alone: same image, same code, same parameters."""
    if target not in (None, HERE):
        from launcher.cli.resume import rerun_on

        ctx.exit(rerun_on(run_id, str(target), words, place, runtime, detach, as_json))
    if detach:
        raise UsageError("--detach is for boxes", hint="what runs here ends with this command")
    cache, progress = Cache(), choose_progress()
    opened, access = execution.open_store(place)
    old, facts = recorded(opened, run_id)
    work = recovered(again(old, *execution.moment()), opened, access, cache, progress, given_paths(words), runtime)
    ctx.exit(execution.execute(work, opened, cache, runtime=runtime, facts=facts, as_json=as_json))


def resume_run(run_id: str, words: Sequence[str], place: str | None, runtime: str | None, as_json: bool) -> int:
    """Start the next attempt of a run. Raises TargetError when it has succeeded, or may still be running."""
    from launcher import records

    cache, progress = Cache(), choose_progress()
    opened, access = execution.open_store(place)
    job, facts = recorded(opened, run_id)
    refuse_to_resume(records.load(opened, job.run), targets.open("local", cache, runtime=runtime))
    work = recovered(job, opened, access, cache, progress, given_paths(words), runtime)
    refuse_to_resume(records.load(opened, job.run), targets.open("local", cache, runtime=runtime))  # that took a while
    work = replace(work, attempt=records.next_attempt(opened, job.run))
    return execution.execute(work, opened, cache, runtime=runtime, facts=facts, as_json=as_json)


def refuse_to_resume(record: Record, local: Local) -> None:
    """Raise TargetError for a run that has succeeded, or that may be going on where this machine can't see it.

    Of what it started itself, this machine knows better than the record whether it still runs.
    """
    refuse_succeeded(record)
    last = record.attempts[-1] if record.attempts else None
    if last is not None and local.last_attempt(record.run) == last.attempt:
        return
    if record.state == "queued" and local.knows(record.run):
        return
    refuse_going(record)


def refuse_succeeded(record: Record) -> None:
    if record.state == "succeeded":
        run = record.run
        raise TargetError(f"{run} has succeeded", hint=f"`launcher rerun {run}` runs it again, as a new run")


def refuse_going(record: Record) -> None:
    """Raise StillRunning for a run that gave a sign of life a while ago at most: another machine may have it.

    Where it gave none the new attempt waits until the old one's claim has lapsed.
    """
    last = record.attempts[-1] if record.attempts else None
    if last is None or record.state not in SILENT_S:
        return
    if silent_s(last) < (enough := SILENT_S[record.state]):
        elsewhere = f"{record.run} is {record.state}, and this machine (with this cache) did not start it"
        silence = f"when it has given no sign of life for {enough:.0f} s it can be resumed"
        raise StillRunning(elsewhere, hint=f"`launcher logs -f {record.run}` follows it; {silence}")


def silent_s(last: Attempt) -> float:
    """Return for how many seconds an attempt gave no sign of life, by the clocks of its node and of this machine."""
    sign = last.last_sign or last.queued
    return (datetime.now(timezone.utc) - moment(sign)).total_seconds() if sign else 0.0


def recorded(opened: Store, prefix: str) -> tuple[Job, Mapping[str, object] | None]:
    """Return a run's job, and the facts about its code. Raises UsageError, StoreError where they are not there."""
    from launcher import records

    run = records.find(opened, prefix)
    try:
        job = from_json(opened.get(keys.job(run)))
    except ObjectMissingError as e:  # it was pulled from a box to another store than its own
        raise StoreError(f"the job of {run} is not in {opened.url}", hint=ELSEWHERE) from e
    return job, records.load(opened, run).code_facts


def recovered(
    job: Job,
    opened: Store,
    access: Access,
    cache: Cache,
    progress: Progress,
    given: Mapping[str, Path],
    runtime: str | None,
) -> Work:
    """Bring back everything that a job names, on a machine that can run it.

    Raises TargetError with every reason why this one can't, LauncherError of what is missing or different.
    """
    from launcher.cli.check import refuse_unfit
    from launcher.cli.inputs import origins, paths
    from launcher.target.model import Work

    def fit(lock: Lock) -> None:
        refuse_unfit(lock, job.resources, cache, runtime, opened.url, {})

    got = brought_back(job, opened, cache, progress, given, fit)
    data, lay = paths(got.data), origins(got.data)
    return Work(job=job, image=got.image, code=got.code, store=access, data=data, origins=lay)


@dataclass(frozen=True, kw_only=True)
class Back:
    """What a job names, brought back to this machine."""

    image: Image
    code: Path
    data: Mapping[str, Staged]


def brought_back(
    job: Job,
    opened: Store,
    cache: Cache,
    progress: Progress,
    given: Mapping[str, Path],
    fit: Callable[[Lock], None] = lambda lock: None,
    name: str = "",
) -> Back:
    """Bring back what a job names, from its lock and its code in the store. `name` is whose they are, if not the run's.

    `fit` raises where the job can't run, before anything is fetched. Raises a LauncherError of what is missing or
    different.
    """
    from launcher.fetch import base_sources, default_sources
    from launcher.lock import loads
    from launcher.vault import VaultSource

    whose = name or job.run
    try:
        lock = loads(opened.get(keys.lock(job.lock)).decode(), f"the lock of {whose}")
    except ObjectMissingError as e:
        hint = "submit its spec again" if name else ELSEWHERE
        raise StoreError(f"the lock of {whose} is not in {opened.url}", hint=hint) from e
    fit(lock)
    sources = [VaultSource(opened), *default_sources(), *base_sources(lock)]
    image = pipeline.built(lock, cache, progress, sources=sources)
    if image.id != job.image:
        raise LockError(f"the lock of {whose} gives the image {image.id}, and its job names {job.image}")
    found = data_of(job, lock, given, cache, opened, progress)
    return Back(image=image, code=code_archive(job, opened, cache), data=found)


def code_archive(job: Job, opened: Store, cache: Cache) -> Path:
    """Return the code archive, from the cache or the store. Raises StoreError, IntegrityError."""
    from launcher.digest import sha256_file

    if found := cache.find("artifacts", job.code):
        return found
    with cache.scratch() as scratch:
        part = scratch / "code.tar"
        try:
            with part.open("wb") as out:
                for chunk in opened.stream(keys.artifact(job.code)):
                    out.write(chunk)
        except ObjectMissingError as e:
            raise StoreError(f"the code of {job.run} is not in {opened.url}", hint=ELSEWHERE) from e
        if (sha256 := sha256_file(part)[0]) != job.code:
            raise IntegrityError(f"the code of {job.run} in {opened.url} is damaged: it has the sha256 {sha256}")
        return cache.adopt("artifacts", job.code, part)


def given_paths(words: Sequence[str]) -> dict[str, Path]:
    """Read NAME=PATH words. Raises UsageError."""
    pairs = [word.partition("=") for word in words]
    if bad := [name for name, equals, path in pairs if not equals or not path]:
        raise UsageError(f"--data {bad[0]}: this is no NAME=PATH")
    return {name: Path(path).expanduser().absolute() for name, _, path in pairs}


def data_of(
    job: Job, lock: Lock, given: Mapping[str, Path], cache: Cache, opened: Store, progress: Progress
) -> dict[str, Staged]:
    """Return where a job's inputs are: where --data says, on this node, in the store, or where they were before.

    Raises UsageError for a name that the run doesn't know, FetchError for what is nowhere, IntegrityError for other
    bytes.
    """
    from launcher.cli.inputs import bring
    from launcher.spec.model import DataSpec

    if strange := set(given) - set(job.data):
        known = ", ".join(sorted(job.data)) or "none"
        raise UsageError(f"the run has no input `{min(strange)}`", hint=f"it has {known}")
    if lost := [f"--data {name}={path}" for name, path in given.items() if not path.exists()]:
        raise UsageError(f"{lost[0]}: there is nothing there")
    pins = {pin.name: pin for pin in lock.data if job.data.get(pin.name) == pin.sha256}
    return bring(pins, {name: DataSpec(name=name, path=path) for name, path in given.items()}, cache, opened, progress)
