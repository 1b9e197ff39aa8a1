"""Jobs as JSON, their wire format; jobs of older launchers are read too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from launcher.digest import canonical_json
from launcher.errors import StoreError
from launcher.gpu.model import Code, Gpu
from launcher.job.model import JOB_VERSION, Job
from launcher.spec.model import Gpus, Keep, Resources

UNSAID = {"sweep": None, "point": None, "retries": 0, "restart": True}
"""Keys that older launchers didn't know. Left out where they say nothing, so that an old job stays as it is."""


def to_json(job: Job) -> bytes:
    """Return the job as canonical JSON; `from_json` gives an equal job back."""
    return canonical_json(to_values(job))


def to_values(job: Job) -> dict[str, Any]:
    """Return the job in values that JSON has."""
    values = asdict(job)
    return {name: value for name, value in values.items() if name not in UNSAID or value != UNSAID[name]}


def from_json(data: bytes | str) -> Job:
    """Read a job. Raises StoreError when it is none, or was written by a newer launcher."""
    try:
        return from_values(json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        names = ", ".join(entry.name for entry in fields(Job))
        raise StoreError(f"this is no job: {e}", hint=f"a job has the keys {names}") from e


def from_values(values: Mapping[str, Any]) -> Job:
    """Make a job of JSON's values. Raises StoreError for a newer version; KeyError and others for what is no job."""
    told = dict(values)
    if told["version"] != JOB_VERSION:
        raise StoreError(
            f"this job has version {told['version']}, and this launcher knows {JOB_VERSION}",
            hint="use the launcher that wrote it, or a newer one",
        )
    resources = dict(told.pop("resources"))
    resources["gpus"] = Gpus(**resources["gpus"])
    gpu = gpu_from(told.pop("gpu", None))  # jobs from before there was one are read too
    keep = Keep(**told.pop("keep", {}))
    return Job(
        **{name: tupled(value) for name, value in told.items()}, resources=Resources(**resources), gpu=gpu, keep=keep
    )


def gpu_from(told: Mapping[str, Any] | None) -> Gpu | None:
    """Read what an image needs of GPUs back from JSON's values."""
    if told is None:
        return None
    code = tuple(Code(**{name: tupled(value) for name, value in one.items()}) for one in told["code"])
    return Gpu(**{**told, "code": code})


def tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
