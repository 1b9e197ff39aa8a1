"""The lock's [gpu]: CUDA and its libraries by version, the lowest drivers, and the device code of each artifact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from launcher.cache import Cache
from launcher.gpu.model import Code, Gpu
from launcher.gpu.versions import fields, minor_release
from launcher.image.inflate import members
from launcher.lock.model import Wheel
from launcher.lock.toolkits import toolkits
from launcher.progress import SILENT, Progress
from launcher.resolve.gpu.base import BaseFacts, Framework, frameworks_in, versions_of
from launcher.resolve.gpu.table import tabled
from launcher.resolve.gpu.wheels import FRAMEWORKS, code_of, cuda_of, noted, versions_in

MAJOR_ONLY = re.compile(r"(?:cupy-cuda|jax-cuda|nvidia-dali-cuda)(\d\d)(?:x|0|-plugin|-pjrt)?")
NOT_READ = re.compile(r"nvidia-.+|cuda-.+|triton")
"""NVIDIA's own libraries: they serve what their CUDA serves, often with parts for some GPUs only that nothing else
uses; and triton, which compiles on the node."""


def derive(
    wheels: Sequence[Wheel],
    paths: Mapping[str, Path],
    base: BaseFacts | None,
    cache: Cache,
    progress: Progress = SILENT,
) -> Gpu | None:
    """Return what an image of these wheels on this base needs of GPUs; None when there is no CUDA in it.

    `paths` maps each wheel's sha256 to its file. Raises ImageError for a wheel that can't be read.
    """
    below = versions_of(base) if base else {}
    known = {**below, **dict(versions_in((wheel.name, wheel.version) for wheel in wheels))}
    there = frameworks_in(base, over={wheel.name for wheel in wheels}) if base else []
    frameworks = {one.name: cuda for one in there if (cuda := cuda_of(one.name, one.files))} | built_with(wheels, paths)
    cuda = toolkit(wheels, known, below, frameworks, progress)
    if cuda is None:
        return None
    table = toolkits()
    return Gpu(
        cuda=cuda,
        cudart=known.get("cudart"),
        cudnn=known.get("cudnn"),
        nccl=known.get("nccl"),
        driver=table.floor(cuda),
        driver_exact=table.exact(cuda),
        code=(*codes_below(there, frameworks, cache), *codes(wheels, paths, frameworks, cache, progress)),
    )


def built_with(wheels: Iterable[Wheel], paths: Mapping[str, Path]) -> dict[str, str]:
    """Return the CUDA of each framework among the wheels that was built with one."""
    found = {one.name: members(paths[one.sha256], one.filename) for one in wheels if one.name in FRAMEWORKS}
    return {name: cuda for name, files in found.items() if (cuda := cuda_of(name, files))}


def codes_below(there: Iterable[Framework], frameworks: Mapping[str, str], cache: Cache) -> Iterator[Code]:
    """Yield the device code of the base's own frameworks."""
    for one in there:
        if one.name in frameworks:
            read = noted(one.name, one.version, one.key, partial(dict, one.files), cache)
            yield from present(read or last_resort(one.name, one.version, frameworks))


def toolkit(
    wheels: Iterable[Wheel],
    known: Mapping[str, str],
    below: Mapping[str, str],
    frameworks: Mapping[str, str],
    progress: Progress,
) -> str | None:
    """Return the newest CUDA that is in the image: its driver serves the older ones too (backward compatibility).

    tensorflow is built with CUDA even where it runs without: it counts when there is a runtime for it.
    """
    runtime = [minor_release(known["cudart"])] if "cudart" in known else []
    base = [minor_release(below["cuda"])] if "cuda" in below else []
    built = [cuda for name, cuda in frameworks.items() if name != "tensorflow" or runtime or base]
    found = {*runtime, *base, *built}
    majors = {named[1] for wheel in wheels if (named := MAJOR_ONLY.fullmatch(wheel.name))}
    found |= {major for major in majors if not any(cuda.split(".")[0] == major for cuda in found)}
    if len({cuda.split(".")[0] for cuda in found}) > 1:
        progress.note(f"several CUDA major versions are in one image ({', '.join(sorted(found, key=fields))})")
    return max(found, key=fields, default=None)


def codes(
    wheels: Iterable[Wheel],
    paths: Mapping[str, Path],
    frameworks: Mapping[str, str],
    cache: Cache,
    progress: Progress,
) -> Iterator[Code]:
    """Yield the device code of each wheel that has some; torch's even when nothing tells for which GPUs it is."""
    read = [wheel for wheel in wheels if not NOT_READ.fullmatch(wheel.name)]
    with progress.task("read device code", len(read), "wheels") as task:
        for wheel in sorted(read, key=lambda one: one.name):
            found = code_of(wheel, paths[wheel.sha256], cache)
            yield from present(found or last_resort(wheel.name, wheel.version, frameworks))
            task.advance()


def last_resort(name: str, version: str, frameworks: Mapping[str, str]) -> Code | None:
    """Return what the table says of torch: it always has device code, even when nothing tells for which GPUs."""
    return tabled(name, version, frameworks[name]) if name == "torch" and name in frameworks else None


def present(code: Code | None) -> tuple[Code, ...]:
    return (code,) if code else ()
