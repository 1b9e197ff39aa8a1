"""`launcher run`: a spec to its lock, image, code and job, and the job to its end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.output import HERE, json_option, runtime_option
from launcher.cli.progress import choose_progress
from launcher.errors import StoreError, UsageError

if TYPE_CHECKING:
    from launcher.job import Job
    from launcher.spec.model import Spec
    from launcher.store.objects import Store


@click.command("run")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option("--on", "target", metavar="TARGET", help="Run it on a box: a name of `launcher target list`.")
@click.option("-d", "--detach", is_flag=True, help="With --on: return when it has been started there.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Override a parameter.")
@runtime_option
@click.option("--store", "place", metavar="URL", help="The store (default: the spec's, then $LAUNCHER_STORE).")
@click.option("--frozen", is_flag=True, help="Refuse when the lock is missing or no longer fits.")
@click.option("--point", type=click.IntRange(0), metavar="N", help="Run one point of a sweep; 0 is the first.")
@click.option("--resume", metavar="RUN", help="Go on with a run, from its last whole checkpoint, as its next attempt.")
@click.option("--data", "words", multiple=True, metavar="NAME=PATH", help="With --resume: where an input is now.")
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    spec: Path | None,
    target: str | None,
    detach: bool,
    params: tuple[str, ...],
    runtime: str | None,
    place: str | None,
    frozen: bool,
    point: int | None,
    resume: str | None,
    words: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run SPEC (experiment.yaml): lock it, build its image, run it here or --on a box, record it.

    The command's output is this command's output, and its exit code the exit code. With --json stdout is the
    record alone, and what the command prints goes to stderr. Sweeps are for `launcher submit`; --point runs one point.

    On a box the run needs nobody who is connected: Ctrl-C lets go of it, and `launcher attach RUN` comes back.
    """
    there = None if target in (None, HERE) else target
    if detach and there is None:
        raise UsageError("--detach goes with --on", hint="what runs here ends with this command")
    if resume is None:
        if words:
            raise UsageError("--data goes with --resume", hint="a spec names its inputs under `data:`")
        if there is not None:
            from launcher.cli.launch import Asked, run_spec_on

            ctx.exit(run_spec_on(there, Asked(spec, params, place, frozen, point), runtime, detach, as_json))
        ctx.exit(run_spec(spec, params, runtime, place, frozen, as_json, point))
    if spec or params or frozen or point is not None:
        raise UsageError("--resume goes on with what the record says", hint="leave SPEC, -p, --point and --frozen out")
    from launcher.cli.resume import go_on

    ctx.exit(go_on(resume, target or HERE, words, place, runtime, detach, as_json))


def run_spec(
    path: Path | None,
    params: tuple[str, ...],
    runtime: str | None,
    place: str | None,
    frozen: bool,
    as_json: bool,
    point: int | None = None,
) -> int:
    """Run a spec, or one point of its sweep; return the command's exit code."""
    from launcher import spec as specs
    from launcher.cli import check, execution, inputs, pipeline, preparing
    from launcher.job import overridden, plan
    from launcher.lock import digest
    from launcher.target.model import Work

    cache, progress = Cache(), choose_progress()
    path = pipeline.given(path)
    one_run(specs.load(path), point, path)  # refused before anything is locked
    whole, lock = pipeline.locked(path, cache, progress, frozen=frozen)
    overrides = overridden(params, whole.params)
    spec = one_run(whole, point, path)
    spec = replace(spec, store=place or spec.store)  # where a lost artifact is looked for, too
    opened, access = execution.open_store(spec.store)
    check.refuse_unfit(lock, spec.resources, cache, runtime, opened.url, inputs.lying(spec))
    got = preparing.gathered(whole, spec, lock, opened, access, cache, progress)
    now, entropy = execution.moment()
    [job] = plan(
        spec,
        lock=digest(lock),
        image=got.image.id,
        code=got.code.digest,
        now=now,
        entropy=entropy,
        data=got.pins,
        overrides=overrides,
        gpu=lock.gpu,
    )
    preparing.keep_named(job, lock, got.code.archive, got.code.patch, opened)
    data, origins = inputs.paths(got.data), inputs.origins(got.data)
    work = Work(job=job, image=got.image, code=got.code.archive, store=access, data=data, origins=origins)
    ended = execution.execute(work, opened, cache, runtime=runtime, facts=got.code.facts(), as_json=as_json)
    finish_point(whole, job, opened, ended)
    return ended


def finish_point(whole: Spec, job: Job, opened: Store, ended: int) -> None:
    """Note that a point of a sweep is finished, so that the sweep doesn't run it again."""
    from launcher.job import point_digest, point_group
    from launcher.store import keys

    if whole.sweep and ended == 0:
        with suppress(StoreError):  # the sweep would run it once more, no worse
            opened.create(keys.point(point_group(job), point_digest(job)), job.run.encode())


def one_run(spec: Spec, point: int | None, path: Path) -> Spec:
    """Return the spec of one run: itself, or a point of its sweep. Raises UsageError where that isn't one."""
    from launcher.sweep import expand, with_point

    if spec.sweep is None:
        if point is not None:
            raise UsageError(f"{path} has no sweep", hint="leave --point out")
        return spec
    points = expand(spec)
    if point is None:
        hint = f"`launcher submit {path} --on TARGET` runs them; --point 0 runs the first one alone"
        raise UsageError(f"{path} is a sweep of {len(points)} point{'s' * (len(points) != 1)}", hint=hint)
    if point >= len(points):
        hint = f"`launcher points {path}` shows them"
        raise UsageError(f"there is no point {point}: the sweep has {len(points)}, from 0 on", hint=hint)
    return with_point(spec, points[point])
