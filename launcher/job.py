"""A job: one run, fully decided, a plain value. JSON is its wire format.

A run id is `YYYYMMDD-HHMMSS-<name>-<6 characters>`: the UTC second of planning, so that ids sort by time, the
spec's name, so that people recognise it, and 30 random bits, so that two machines never choose the same.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any

from launcher.digest import canonical_json
from launcher.errors import Problem, SpecError, StoreError, UsageError
from launcher.gpu.model import Code, Gpu
from launcher.spec.model import Gpus, Keep, Param, Resources, Spec

JOB_VERSION = 1
ENTROPY_BYTES = 4
NAME_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a target needs to run it and that a record needs to run it again.

    `run` is the run id, chosen before anything is submitted. `argv` is the final command: nothing is left to fill in.
    """

    version: int = JOB_VERSION
    run: str
    name: str
    lock: str  # sha256 of the lock file's bytes
    image: str  # image id: sha256 of the OCI config
    code: str  # digest of the code snapshot: sha256 of its archive, which depends on nothing but the tree
    command: str | tuple[str, ...]  # as the spec has it, with its {places}
    argv: tuple[str, ...]
    params: Mapping[str, Param] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)  # name -> sha256
    resources: Resources = field(default_factory=Resources)
    outputs: tuple[str, ...] = ("**",)
    determinism: str = "seed"
    seed: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    gpu: Gpu | None = None  # what the image needs of a node's GPUs, from its lock: checked on the node again
    keep: Keep = field(default_factory=Keep)
    bandwidth: int | None = None  # bytes in a second for uploads while the command runs


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
) -> list[Job]:
    """Return the jobs of a spec: one, until sweeps multiply them. Pure: `now` and `entropy` only make the run id.

    `lock`, `image` and `code` are digests, `data` maps each input's name to its digest, `gpu` is the lock's.
    Raises SpecError when a parameter is infinite or not a number, which no JSON can carry.
    """
    from launcher.spec.command import render

    params = {**spec.params, **(overrides or {})}
    refuse_endless(params, str(spec.file))
    job = Job(
        run=run_id(spec.name, now, entropy),
        name=spec.name,
        lock=lock,
        image=image,
        code=code,
        command=spec.run,
        argv=render(spec.run, params),
        params=params,
        data=dict(data or {}),
        resources=spec.resources,
        outputs=spec.outputs,
        determinism=spec.determinism,
        seed=spec.seed,
        gpu=gpu,
        keep=spec.keep,
        bandwidth=spec.bandwidth,
    )
    return [job]


def again(job: Job, now: datetime, entropy: bytes) -> Job:
    """Return the same job as a new run."""
    return replace(job, run=run_id(job.name, now, entropy))


def run_id(name: str, now: datetime, entropy: bytes) -> str:
    """Return a new run id from a moment and four random bytes."""
    moment = now.astimezone(timezone.utc).strftime("%Y%m%d-%H%M%S")
    tail = base64.b32encode(entropy[:ENTROPY_BYTES]).decode().lower()[:6]
    return f"{moment}-{name[:NAME_LENGTH]}-{tail}"


def refuse_endless(params: Mapping[str, Param], file: str) -> None:
    problems = [
        Problem(message=f"{file}: the parameter `{name}` is {value}", hint="give a finite number, or quote it as text")
        for name, value in params.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if problems:
        raise SpecError.of(problems)


def overridden(words: Iterable[str], params: Mapping[str, Param]) -> dict[str, Param]:
    """Read `name=value` words by the rules that a spec's own parameters are read by.

    Raises UsageError that tells of every word that is no such pair, or names no parameter of the spec.
    """
    from launcher.spec.scalars import meaning, trap

    found: dict[str, Param] = {}
    problems: list[Problem] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not is_utf8(word):
            problems.append(Problem(message=f"-p {name}: {text!r} is not UTF-8", hint="JSON can't carry other bytes"))
        elif not equals:
            problems.append(Problem(message=f"`-p {word}` is no name=value"))
        elif name not in params:
            problems.append(Problem(message=f"the spec has no parameter `{name}`", hint=known(name, params)))
        elif (text[:1] not in "'\"" or not text) and (reason := trap(text)):
            problems.append(Problem(message=f"-p {word}: {reason}"))
        else:
            found[name] = quoted(text) if text[:1] in ("'", '"') else meaning(text)
    if problems:
        raise UsageError.of(problems)
    return found


def is_utf8(text: str) -> bool:
    """Tell whether a word of the command line was UTF-8: other bytes arrive as lone surrogates (PEP 383)."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def quoted(text: str) -> str:
    """Return what a quoted YAML scalar means; text that only begins with a quote is itself."""
    if len(text) < 2 or text[-1] != text[0]:
        return text
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str) else text


def known(name: str, params: Mapping[str, Param]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(params), 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"it has {', '.join(sorted(params))}" if params else "it has none: list them under `params:`"


def to_json(job: Job) -> bytes:
    """Return the job as canonical JSON; `from_json` gives an equal job back."""
    return canonical_json(asdict(job))


def from_json(data: bytes | str) -> Job:
    """Read a job. Raises StoreError when it is none, or was written by a newer launcher."""
    try:
        told: dict[str, Any] = json.loads(data)
        if told["version"] != JOB_VERSION:
            raise StoreError(
                f"this job has version {told['version']}, and this launcher knows {JOB_VERSION}",
                hint="use the launcher that wrote it, or a newer one",
            )
        resources = dict(told.pop("resources"))
        resources["gpus"] = Gpus(**resources["gpus"])
        gpu = gpu_from(told.pop("gpu", None))  # jobs from before there was one are read too
        keep = Keep(**told.pop("keep", {}))
        values = {name: tupled(value) for name, value in told.items()}
        return Job(**values, resources=Resources(**resources), gpu=gpu, keep=keep)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        names = ", ".join(entry.name for entry in fields(Job))
        raise StoreError(f"this is no job: {e}", hint=f"a job has the keys {names}") from e


def gpu_from(told: Mapping[str, Any] | None) -> Gpu | None:
    """Read what an image needs of GPUs back from JSON's values."""
    if told is None:
        return None
    code = tuple(Code(**{name: tupled(value) for name, value in one.items()}) for one in told["code"])
    return Gpu(**{**told, "code": code})


def tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
