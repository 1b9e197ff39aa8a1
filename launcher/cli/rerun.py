"""`launcher rerun`, and `launcher run --resume`: a recorded run again, from its record alone.

Job, lock and code come from the store; the image is built from the lock, with artifacts from cache, vault or index;
inputs are found where --data says, or where this machine last saw the same bytes, and their digest is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher import target
from launcher.cache import Cache
from launcher.cli import execution, pipeline
from launcher.cli.output import json_option, runtime_option
from launcher.cli.progress import choose_progress
from launcher.errors import (
    IntegrityError,
    LockError,
    ObjectMissingError,
    Problem,
    StoreError,
    TargetError,
    UsageError,
)
from launcher.job import Job, again, from_json
from launcher.store import keys
from launcher.target.model import StillRunning

if TYPE_CHECKING:
    from launcher.progress import Progress
    from launcher.records import Record
    from launcher.store.access import Access
    from launcher.store.objects import Store
    from launcher.target.local import Local
    from launcher.target.model import Work


@click.command("rerun")
@click.argument("run_id", metavar="RUN")
@click.option("--data", "words", multiple=True, metavar="NAME=PATH", help="Where an input is now.")
@runtime_option
@click.option("--store", "place", metavar="URL", help="The store that has the record (default: $LAUNCHER_STORE).")
@json_option
@click.pass_context
def rerun(
    ctx: click.Context, run_id: str, words: tuple[str, ...], runtime: str | None, place: str | None, as_json: bool
) -> None:
    """Run RUN again as a new run, from its record alone: same image, same code, same parameters."""
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
    refuse_to_resume(records.load(opened, job.run), target.open("local", cache, runtime=runtime))
    work = replace(
        recovered(job, opened, access, cache, progress, given_paths(words), runtime),
        attempt=records.next_attempt(opened, job.run),
    )
    return execution.execute(work, opened, cache, runtime=runtime, facts=facts, as_json=as_json)


def refuse_to_resume(record: Record, local: Local) -> None:
    """Raise TargetError for a run that has succeeded, or that may be going on where this machine can't see it.

    Of what it started itself, this machine knows better than the record whether it still runs.
    """
    run = record.run
    if record.state == "succeeded":
        raise TargetError(f"{run} has succeeded", hint=f"`launcher rerun {run}` runs it again, as a new run")
    elsewhere = f"{run} is {record.state}, and this machine (with this cache) did not start it"
    if record.state == "queued" and not local.knows(run):
        raise StillRunning(elsewhere, hint=f"`launcher rerun {run}` makes a new run of it")
    if record.state == "running" and local.last_attempt(run) != record.attempts[-1].attempt:
        silence = "when it has given no sign of life for two minutes it can be resumed"
        raise StillRunning(elsewhere, hint=f"`launcher logs -f {run}` follows it; {silence}")


def recorded(opened: Store, prefix: str) -> tuple[Job, Mapping[str, object] | None]:
    """Return a run's job, and the facts about its code. Raises UsageError, StoreError."""
    from launcher import records

    run = records.find(opened, prefix)
    return from_json(opened.get(keys.job(run))), records.load(opened, run).code_facts


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
    from launcher.fetch import base_sources, default_sources
    from launcher.lock import loads
    from launcher.target.model import Work
    from launcher.vault import VaultSource

    text = opened.get(keys.lock(job.lock)).decode()
    lock = loads(text, f"the lock of {job.run}")
    refuse_unfit(lock, job.resources, cache, runtime, opened.url, {})
    sources = [VaultSource(opened), *default_sources(), *base_sources(lock)]
    image = pipeline.built(lock, cache, progress, sources=sources)
    if image.id != job.image:
        raise LockError(f"the lock of {job.run} gives the image {image.id}, and it ran in {job.image}")
    data = data_paths(job, cache, progress, given)
    return Work(job=job, image=image, code=code_archive(job, opened, cache), store=access, data=data)


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
            raise StoreError(f"the code of {job.run} is not in {opened.url}", hint="name its store by --store") from e
        if (sha256 := sha256_file(part)[0]) != job.code:
            raise IntegrityError(f"the code of {job.run} in {opened.url} is damaged: it has the sha256 {sha256}")
        return cache.adopt("artifacts", job.code, part)


def given_paths(words: Sequence[str]) -> dict[str, Path]:
    """Read NAME=PATH words. Raises UsageError."""
    pairs = [word.partition("=") for word in words]
    if bad := [name for name, equals, path in pairs if not equals or not path]:
        raise UsageError(f"--data {bad[0]}: this is no NAME=PATH")
    return {name: Path(path).expanduser().absolute() for name, _, path in pairs}


def data_paths(job: Job, cache: Cache, progress: Progress, given: Mapping[str, Path]) -> dict[str, Path]:
    """Return where a job's inputs are. Raises UsageError for those that are nowhere, IntegrityError for other bytes."""
    from launcher.lock.data import pin_data
    from launcher.spec.model import DataSpec

    if strange := set(given) - set(job.data):
        raise UsageError(
            f"the run has no input `{min(strange)}`", hint=f"it has {', '.join(sorted(job.data)) or 'none'}"
        )
    problems, found = [], {}
    for name, sha256 in job.data.items():
        path = given.get(name) or execution.recalled_data(cache, sha256)
        if path is None or not path.exists():
            hint = f"--data {name}=PATH names it"
            problems.append(Problem(message=f"the input `{name}` ({sha256[:12]}...) is not known here", hint=hint))
        elif (pin := pin_data(DataSpec(name=name, path=path), cache, progress)).sha256 != sha256:
            raise IntegrityError(f"{path} has the digest {pin.sha256}, and the run used {sha256} as `{name}`")
        else:
            found[name] = path
    if problems:
        raise UsageError.of(problems)
    return found
