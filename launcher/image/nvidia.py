"""The variables by which NVIDIA's container runtimes know what an image needs; our own check never relies on them.

Source: NVIDIA Container Toolkit, "Specialized Configurations with Docker" (environment variables and constraints):
in NVIDIA_REQUIRE_*, a space is OR and a comma is AND. Under CDI nobody reads NVIDIA_REQUIRE_CUDA.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from launcher.gpu.model import Gpu

VISIBLE = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
NOTHING: Mapping[str, str] = MappingProxyType({})


def nvidia_variables(gpu: Gpu | None, base_env: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """Return the variables of an image with CUDA; none for others.

    What a base says of its devices and capabilities stays; its requirement was written for its own CUDA, and goes.
    """
    if gpu is None:
        return {}
    visible = {key: base_env.get(key, value) for key, value in VISIBLE.items()}
    return {**visible, "NVIDIA_REQUIRE_CUDA": requirement(gpu)}


def requirement(gpu: Gpu) -> str:
    """Return the constraint: a driver made for this CUDA, or one that minor-version compatibility lets serve it."""
    cuda = gpu.cuda if "." in gpu.cuda else f"{gpu.cuda}.0"
    return f"cuda>={cuda}" + (f" driver>={gpu.driver}" if gpu.driver else "")
