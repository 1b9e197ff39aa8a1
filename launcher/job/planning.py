"""Makes jobs of a spec and of the digests that it came to. Pure: time and chance are given.

A run id is `YYYYMMDD-HHMMSS-<name>-<6 characters>`: the UTC second of planning, so that ids sort by time, the
spec's name, so that people recognise it, and 30 random bits, so that two machines never choose the same. The runs of a
sweep share all of that, and end in the number of their point, with five digits: `...-00042`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from launcher.errors import Problem, SpecError
from launcher.gpu.model import Gpu
from launcher.job.digests import digester, sweep_id
from launcher.job.model import Job
from launcher.spec.command import Template, template
from launcher.spec.model import Param, Spec
from launcher.sweep import Point, refuse_overrides

ENTROPY_BYTES = 4
NAME_LENGTH = 32


def plan(
    spec: Spec,
    *,
    lock: str,
    image: str,
    code: str,
    now: datetime,
    entropy: bytes,
    data: Mapping[str, str] | None = None,
    overrides: Mapping[str, Param] | None = None,
    gpu: Gpu | None = None,
    points: Sequence[Point] | None = None,
) -> list[Job]:
    """Return the jobs of a spec: one, or one for each point of a sweep. `now` and `entropy` only make the run ids.

    `lock`, `image` and `code` are digests, `data` maps each input's name to its digest, `gpu` is the lock's; `points`
    are what `launcher.sweep.expand` made of the spec. Raises SpecError when a parameter is infinite or not a number,
    which no JSON can carry; UsageError when an override names a parameter that the sweep sets.
    """
    params = {**spec.params, **(overrides or {})}
    refuse_endless(params, str(spec.file))
    command = template(spec.run, params)
    job = Job(
        run=run_id(spec.name, now, entropy),
        name=spec.name,
        lock=lock,
        image=image,
        code=code,
        command=spec.run,
        argv=command.fill(params),
        params=params,
        data=dict(data or {}),
        resources=spec.resources,
        outputs=spec.outputs,
        determinism=spec.determinism,
        seed=spec.seed,
        gpu=gpu,
        keep=spec.keep,
        bandwidth=spec.bandwidth,
        retries=spec.retries,
        restart=spec.restart,
    )
    if points is None:
        return [job]
    refuse_overrides(spec, overrides or {})
    return swept(job, points, str(spec.file), command)


def swept(job: Job, points: Sequence[Point], file: str, command: Template) -> list[Job]:
    """Return the jobs of a sweep's points; `job` says what they share."""
    for point in points:
        refuse_endless(point.params, file)
    params = [{**job.params, **point.params} for point in points]
    seeds = [job.seed if point.seed is None else point.seed for point in points]
    argvs = [command.fill(one) for one in params]
    sweep = sweep_id(job.name, list(map(digester(job), argvs, params, seeds)))
    shared = {**vars(job), "sweep": sweep}  # `replace` would ask for the fields of each anew
    return [
        Job(**{**shared, "run": point_run(job.run, i), "argv": argvs[i], "params": own, "seed": seeds[i], "point": i})
        for i, own in enumerate(params)
    ]


def again(job: Job, now: datetime, entropy: bytes) -> Job:
    """Return the same job as a new run, which is no part of a sweep."""
    return replace(job, run=run_id(job.name, now, entropy), sweep=None, point=None)


def run_id(name: str, now: datetime, entropy: bytes) -> str:
    """Return a new run id from a moment and four random bytes."""
    moment = now.astimezone(timezone.utc).strftime("%Y%m%d-%H%M%S")
    tail = base64.b32encode(entropy[:ENTROPY_BYTES]).decode().lower()[:6]
    return f"{moment}-{name[:NAME_LENGTH]}-{tail}"


def point_run(base: str, point: int) -> str:
    """Return the run id of a point; `base` is what the runs of a sweep share."""
    return f"{base}-{point:05d}"


def refuse_endless(params: Mapping[str, Param], file: str) -> None:
    problems = [
        Problem(message=f"{file}: the parameter `{name}` is {value}", hint="give a finite number, or quote it as text")
        for name, value in params.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if problems:
        raise SpecError.of(problems)
