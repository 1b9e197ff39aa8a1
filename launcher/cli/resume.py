"""`launcher resume`: go on with a run from its last whole checkpoint, where it was or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.listing import store_option
from launcher.cli.output import HERE, json_option, runtime_option
from launcher.cli.progress import choose_progress
from launcher.errors import LauncherError, TargetError, UsageError

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.job import Job
    from launcher.lock import Lock
    from launcher.profiles import Profile
    from launcher.ssh.door import Sent
    from launcher.store.access import Access
    from launcher.store.objects import Store


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--on", "target", metavar="TARGET", help="Where (default: where it was sent last).")
@click.option("-d", "--detach", is_flag=True, help="On a box: return when it has been started there.")
@click.option("--data", "words", multiple=True, metavar="NAME=PATH", help="Where an input is now.")
@runtime_option
@store_option
@json_option
def resume(
    run_id: str,
    target: str | None,
    detach: bool,
    words: tuple[str, ...],
    runtime: str | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Go on with RUN as its next attempt, from its last whole checkpoint: on its box, on another one, or here.

    Image, code and inputs are those of its record. `--on local` is this machine.
    """
    return go_on(run_id, target, words, store, runtime, detach, as_json)


def go_on(
    word: str,
    target: str | None,
    words: Sequence[str],
    place: str | None,
    runtime: str | None,
    detach: bool,
    as_json: bool,
) -> int:
    """Start the next attempt of a run where it is wanted; return the command's exit code, or 0 once detached."""
    from launcher.cli import execution
    from launcher.cli.rerun import recorded, resume_run
    from launcher.ssh import door

    opened, _ = execution.open_store(place)
    job, _ = recorded(opened, word)
    told = door.last_sent(opened, job.run)
    name = target or (told.target if told and told.kind == "ssh" else HERE)
    if name != HERE:
        return resume_on(job.run, where(target, told, runtime), told, words, place, detach, as_json)
    if detach:
        raise UsageError("--detach is for boxes", hint="what runs here ends with this command")
    refuse_living(job.run, opened, told, None)
    return resume_run(job.run, words, place, runtime, as_json)


def where(target: str | None, told: Sent | None, runtime: str | None) -> Profile:
    from dataclasses import replace

    from launcher.cli.launch import box
    from launcher.ssh import door

    if target is not None or told is None:
        return box(str(target), runtime)
    profile = door.profile_of(told)
    return replace(profile, runtime=runtime) if runtime else profile


def resume_on(
    run: str,
    profile: Profile,
    told: Sent | None,
    words: Sequence[str],
    place: str | None,
    detach: bool,
    as_json: bool,
) -> int:
    """Start the next attempt of a run on a box."""
    from launcher import records
    from launcher.cli import execution
    from launcher.cli.rerun import recorded

    opened, access = execution.open_store(place)
    job, facts = recorded(opened, run)
    refuse_living(run, opened, told, profile)

    def attempt() -> int:
        refuse_living(run, opened, told, profile)  # to bring it back took a while
        return records.next_attempt(opened, run)

    return bring_and_send(job, facts, profile, opened, access, words, attempt, detach=detach, as_json=as_json)


def rerun_on(
    run: str, target: str, words: Sequence[str], place: str | None, runtime: str | None, detach: bool, as_json: bool
) -> int:
    """Run a recorded run again on a box, as a new run."""
    from launcher.cli import execution
    from launcher.cli.launch import box
    from launcher.cli.rerun import recorded
    from launcher.job import again

    profile = box(target, runtime)
    opened, access = execution.open_store(place)
    old, facts = recorded(opened, run)
    job = again(old, *execution.moment())
    return bring_and_send(job, facts, profile, opened, access, words, lambda: 1, detach=detach, as_json=as_json)


def bring_and_send(
    job: Job,
    facts: Mapping[str, object] | None,
    profile: Profile,
    opened: Store,
    access: Access,
    words: Sequence[str],
    attempt: Callable[[], int],
    *,
    detach: bool,
    as_json: bool,
) -> int:
    """Bring back to this machine what a recorded job names, and from here to a box; start it there. `attempt` gives its
    number, or refuses, just before it is sent."""
    from launcher.cli.inputs import origins, paths
    from launcher.cli.launch import Load, Way, reached, sent
    from launcher.cli.rerun import brought_back, given_paths

    cache, progress = Cache(), choose_progress()
    with reached(profile, opened.url) as (shell, looked):
        profile = looked.result()
        fit = partial(refuse_unfit, job, profile, access)
        found = brought_back(job, opened, cache, progress, given_paths(words), fit)
        load = Load(
            job=job,
            image=found.image,
            code=found.code,
            data=paths(found.data),
            origins=origins(found.data),
            facts=facts,
            attempt=attempt(),
        )
        way = Way(profile=profile, shell=shell, opened=opened, access=access, cache=cache, progress=progress)
        return sent(load, way, detach=detach, as_json=as_json)


def refuse_unfit(job: Job, profile: Profile, access: Access, lock: Lock) -> None:
    from launcher.cli.launch import refuse

    refuse(job, lock, profile, f"linux/{lock.architecture}", access)


def refuse_living(run: str, opened: Store, told: Sent | None, profile: Profile | None) -> None:
    """Raise TargetError for a run that has succeeded, or goes on somewhere: two attempts would only fence each other.

    The box that it was sent to last is asked. Where that is gone, the silence of the store decides.
    """
    from launcher import records
    from launcher.cli.rerun import refuse_going, refuse_succeeded

    record = records.load(opened, run)
    refuse_succeeded(record)
    if told is None or told.kind != "ssh":
        if profile is not None:
            refuse_going(record)
        return
    seen = asked(told, run)
    if seen is not None and not seen.over:
        back = f"`launcher attach {run}` follows it, `launcher cancel {run}` ends it"
        raise TargetError(f"{run} goes on on {told.target}: {seen.phase}", hint=back)
    if seen is None and profile is not None:
        refuse_going(record)


def asked(told: Sent, run: str) -> State | None:
    """Return what a box says of a run; None where it doesn't answer, or has it no more."""
    from launcher.cli.boxes import states_of

    try:
        return states_of(told, [run]).get(run)
    except LauncherError:
        return None
