"""The nouns of GPUs: what an image needs of them, and what a node has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["elf", "metadata", "table"]
"""How we know: read from the artifact's fatbin sections, from the framework's own words, or from a dated table."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """The device code in one artifact, such as torch's wheel.

    `cubins` and `ptx` are compute capabilities in ascending order, as "8.6"; "9.0a" is architecture-specific code
    that runs on exactly that capability, "10.0f" on its family (CUDA C++ Programming Guide, "Family-Specific
    Features"). A cubin runs on the same major version with an equal or higher minor one; PTX is compiled by the
    driver for any equal or higher capability.
    """

    name: str
    version: str
    cubins: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    source: Source


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What an image needs of a node's GPUs and their driver; the lock's `[gpu]` part.

    `cuda` is the toolkit of the runtime inside, as "12.6", or "12" where nothing tells more; `cudart`, `cudnn` and
    `nccl` are full versions or None when the image has none. `driver` is the lowest driver that minor-version
    compatibility allows for this CUDA (NVIDIA, "CUDA Compatibility"), `driver_exact` the first that was made for this
    X.Y, which its PTX needs; None where our table has no such CUDA yet.
    """

    cuda: str
    cudart: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    driver: str | None = None
    driver_exact: str | None = None
    code: tuple[Code, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU of a node. `capability` is like "8.6"; memory in bytes; None where nothing could tell."""

    index: int
    uuid: str | None = None
    model: str | None = None
    capability: str | None = None
    memory_bytes: int | None = None
    multiprocessors: int | None = None


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a node says of its GPUs. `driver` is like "550.54.14", None when there is none or it can't be read.

    `cuda` is the newest CUDA that the driver itself supports, as "12.4", or None. `source` names what was asked:
    "nvml", "nvidia-smi", "proc", or None when nothing answered.
    """

    driver: str | None = None
    cuda: str | None = None
    devices: tuple[Device, ...] = ()
    source: str | None = None
