"""What a spec asks of CUDA, cuDNN, drivers and GPUs, held against what a lock has."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.errors import Problem, Where
from launcher.findings import Finding
from launcher.gpu.model import Device, Gpu, Node
from launcher.gpu.verdict import codes
from launcher.gpu.versions import at_least, fields, matches
from launcher.lock.model import Lock
from launcher.lock.requirements import display
from launcher.lock.toolkits import toolkits
from launcher.spec.model import Spec

OTHER_CUDA = (
    "name the index of wheels built for it (`--extra-index-url` in a requirements file), require a version that was,"
    " or change what is asked"
)
CPU_TORCH = (
    "{filename} is a build without CUDA, of this machine's find-links or indexes: name the index that has builds with"
    " CUDA (`--index-url` in a requirements file), or require the exact version, as `torch=={version}+cu{cuda}`"
)
NO_CUDA = "require what brings CUDA along (torch, jax[cuda12], nvidia-cuda-runtime-cu12), or take a base that has it"


def unmet(spec: Spec, lock: Lock) -> list[Problem]:
    """Return what the spec asks of the GPU environment and the lock hasn't; empty when all is met.

    What can't be known (code of unknown capabilities, drivers of a CUDA that is newer than our table) is not told.
    """
    file = display(spec.file)
    asked = {"image.cuda": spec.image.cuda, "image.cudnn": spec.image.cudnn}
    if lock.gpu is None:
        message = "CUDA is asked for, and the image of this lock has none"
        keys = [key for key, value in asked.items() if value is not None]
        return [
            Problem(message=message, where=Where(file=file, key=key), hint=why_none(lock, spec.image.cuda))
            for key in keys
        ]
    found = [*versions(spec, lock.gpu), *drivers(spec, lock.gpu), *capabilities(spec, lock.gpu)]
    return [Problem(message=text, where=Where(file=file, key=key), hint=hint) for key, text, hint in found]


def why_none(lock: Lock, cuda: str | None) -> str:
    """Say what to do about an image without CUDA: most often torch came without it."""
    torch = next((wheel for wheel in lock.wheels if wheel.name == "torch"), None)
    if torch is None:
        return NO_CUDA
    tag = "".join((cuda or "").split(".")[:2]) or "126"
    return CPU_TORCH.format(filename=torch.filename, version=torch.version.partition("+")[0], cuda=tag)


def versions(spec: Spec, gpu: Gpu) -> Iterator[tuple[str, str, str]]:
    """Compare by whole fields: "12.6" is met by 12.6, and "12" by every 12.x."""
    cuda, cudnn = spec.image.cuda, spec.image.cudnn
    if cuda and not (matches(gpu.cuda, without_update(cuda)) or matches(gpu.cudart, cuda)):
        runtime = f" (runtime {gpu.cudart})" if gpu.cudart else ""
        yield "image.cuda", f"{cuda} is asked for, and what is locked has CUDA {gpu.cuda}{runtime}", OTHER_CUDA
    if cudnn and not matches(gpu.cudnn, cudnn):
        yield "image.cudnn", f"{cudnn} is asked for, and what is locked has {gpu.cudnn or 'no cuDNN'}", OTHER_CUDA


def without_update(cuda: str) -> str:
    """Return X.Y of a toolkit's X.Y.Z: the runtime's own numbers (12.6.77) don't tell which update (12.6.3) it is."""
    parts = cuda.split(".")
    return ".".join(parts[:2]) if len(parts) == 3 and len(parts[2]) == 1 else cuda


def drivers(spec: Spec, gpu: Gpu) -> Iterator[tuple[str, str, str]]:
    """Compare the lowest driver that nodes are said to have with the lowest that will do."""
    driver = spec.gpu.driver
    if driver is None or gpu.driver is None or at_least(driver, gpu.driver):
        return
    serves = toolkits().newest(driver)
    hint = f"nodes with {driver} were made for CUDA {serves}: take wheels for it" if serves else "update the drivers"
    message = f"nodes may have driver {driver}, and CUDA {gpu.cuda} needs {gpu.driver} or newer"
    yield "gpu.driver", message, f"{hint}, or raise gpu.driver to what the nodes really have"


def capabilities(spec: Spec, gpu: Gpu) -> Iterator[tuple[str, str, str]]:
    """Judge each capability that nodes are said to have, with the lowest driver that will do for them."""
    floors = [driver for driver in (spec.gpu.driver, gpu.driver) if driver]
    node = Node(driver=spec.gpu.driver and max(floors, key=fields), source="spec")
    for capability in spec.gpu.capability:
        devices = (Device(index=0, capability=capability),)
        for finding in codes(gpu, node, devices, toolkits()):
            if finding.verdict == "refused":
                yield "gpu.capability", *sentence(finding)


def sentence(finding: Finding) -> tuple[str, str]:
    return finding.says, finding.hint or OTHER_CUDA
