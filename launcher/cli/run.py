"""`launcher run`: a spec to its lock, image, code and job, and the job to its end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.output import json_option, runtime_option
from launcher.cli.progress import choose_progress
from launcher.errors import StoreError, UsageError

if TYPE_CHECKING:
    from launcher.spec.model import Spec


@click.command("run")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
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
    params: tuple[str, ...],
    runtime: str | None,
    place: str | None,
    frozen: bool,
    point: int | None,
    resume: str | None,
    words: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run SPEC (experiment.yaml): lock it, build its image, run it here, record it.

    The command's output is this command's output, and its exit code the exit code. With --json stdout is the
    record alone, and what the command prints goes to stderr. Sweeps are for `launcher submit`; --point runs one point.
    """
    if resume is None:
        if words:
            raise UsageError("--data goes with --resume", hint="a spec names its inputs under `data:`")
        ctx.exit(run_spec(spec, params, runtime, place, frozen, as_json, point))
    if spec or params or frozen or point is not None:
        raise UsageError("--resume goes on with what the record says", hint="leave SPEC, -p, --point and --frozen out")
    from launcher.cli.rerun import resume_run

    ctx.exit(resume_run(resume, words, place, runtime, as_json))


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
    from launcher.cli import check, execution, inputs, interpreter, pipeline
    from launcher.code import snapshot
    from launcher.job import overridden, plan, point_digest, point_group
    from launcher.lock import digest, dumps
    from launcher.store import keys
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
    pins, sources = {pin.name: pin for pin in lock.data}, {data.name: data for data in spec.data}
    found = inputs.bring(pins, sources, cache, opened, progress)
    image = pipeline.expected(lock, pipeline.built(lock, cache, progress, spec=spec))
    interpreter.refuse_without_python(lock, cache)  # only now surely in the cache
    code = snapshot(inputs.code_of(whole, progress), cache, skip=execution.store_folder(access))
    for note in code.notes:
        progress.note(note)
    now, entropy = execution.moment()
    [job] = plan(
        spec,
        lock=digest(lock),
        image=image.id,
        code=code.digest,
        now=now,
        entropy=entropy,
        data={name: pin.sha256 for name, pin in pins.items()},
        overrides=overrides,
        gpu=lock.gpu,
    )
    execution.keep(opened, keys.lock(job.lock), dumps(lock).encode())
    for sha256, archive in [(code.digest, code.archive), *([code.patch] if code.patch else [])]:
        execution.keep(opened, keys.artifact(sha256), archive)
    data, origins = inputs.paths(found), inputs.origins(found)
    work = Work(job=job, image=image, code=code.archive, store=access, data=data, origins=origins)
    ended = execution.execute(work, opened, cache, runtime=runtime, facts=code.facts(), as_json=as_json)
    if whole.sweep and ended == 0:
        with suppress(StoreError):  # the sweep would run it once more, no worse
            opened.create(keys.point(point_group(job), point_digest(job)), job.run.encode())
    return ended


def one_run(spec: Spec, point: int | None, path: Path) -> Spec:
    """Return the spec of one run: itself, or a point of its sweep. Raises UsageError where that isn't one."""
    from launcher.sweep import expand, with_point

    if spec.sweep is None:
        if point is not None:
            raise UsageError(f"{path} has no sweep", hint="leave --point out")
        return spec
    points = expand(spec)
    if point is None:
        hint = f"`launcher submit {path} --on TARGET` runs them; --point 0 runs the first one here"
        raise UsageError(f"{path} is a sweep of {len(points)} point{'s' * (len(points) != 1)}", hint=hint)
    if point >= len(points):
        hint = f"`launcher points {path}` shows them"
        raise UsageError(f"there is no point {point}: the sweep has {len(points)}, from 0 on", hint=hint)
    return with_point(spec, points[point])
