"""The lock's [gpu]: CUDA and its libraries by version, the lowest drivers, and the device code of each artifact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from launcher.cache import Cache
from launcher.gpu.model import Code, Gpu
from launcher.gpu.versions import fields, is_version, minor_release
from launcher.lock.model import Wheel
from launcher.lock.toolkits import toolkits
from launcher.progress import SILENT, Progress
from launcher.resolve.gpu.base import BaseFacts, versions_of
from launcher.resolve.gpu.table import tabled
from launcher.resolve.gpu.wheels import FRAMEWORKS, code_of, cuda_of

LIBRARIES = {
    "cudart": re.compile(r"nvidia-cuda-runtime(-cu\d+)?"),
    "cudnn": re.compile(r"nvidia-cudnn(-cu\d+)?"),
    "nccl": re.compile(r"nvidia-nccl(-cu\d+)?"),
}
"""Names on the index: with the major version up to CUDA 12, mostly without from CUDA 13 on."""
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
    below, libraries = versions_of(base) if base else {}, dict(versions_in(wheels))
    known = {**below, **libraries}
    built = [wheel for wheel in wheels if wheel.name in FRAMEWORKS]
    frameworks = {wheel.name: cuda for wheel in built if (cuda := cuda_of(wheel, paths[wheel.sha256]))}
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
        code=tuple(codes(wheels, paths, frameworks, cache, progress)),
    )


def versions_in(wheels: Iterable[Wheel]) -> Iterator[tuple[str, str]]:
    """Yield CUDA's runtime, cuDNN and NCCL among the wheels; of several (CUDA 12's and 13's) the newest comes last."""
    for key, pattern in LIBRARIES.items():
        found = [wheel.version for wheel in wheels if pattern.fullmatch(wheel.name) and is_version(wheel.version)]
        yield from ((key, version) for version in sorted(found, key=fields))


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
            if found is None and wheel.name == "torch" and "torch" in frameworks:
                found = tabled(wheel, frameworks["torch"])
            if found:
                yield found
            task.advance()
