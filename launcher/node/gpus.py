"""Which GPUs a task has: Slurm has chosen them, and its step's environment and device files say which.

Source: Slurm's gres guide, "GPU Management" (CUDA_VISIBLE_DEVICES, SLURM_STEP_GPUS, SLURM_JOB_GPUS).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.gpu.model import Device, Node
from launcher.gpu.probe import probe, visible
from launcher.target.model import Mount

NAMES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


@dataclass(frozen=True, kw_only=True)
class Given:
    """The GPUs of a task. `devices` is what NVIDIA's driver tells of them; where there is no driver, `mounts` and `env`
    show the container the device files and the variables that Slurm made."""

    devices: tuple[Device, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] | None = None


def given(
    wanted: int, env: Mapping[str, str] = os.environ, node: Node | None = None, dev: Path = Path("/dev")
) -> Given:
    """Return the GPUs that Slurm gave this task; nothing where the job asked for none."""
    if not wanted:
        return Given()
    there = visible(probe() if node is None else node, env.get("CUDA_VISIBLE_DEVICES"))
    if there.devices:
        return Given(devices=there.devices)
    files = [dev / f"nvidia{number}" for number in numbers(env)]
    mounts = tuple(Mount(source=file, target=f"/dev/{file.name}", writable=True) for file in files if file.exists())
    return Given(mounts=mounts, env={name: env[name] for name in NAMES if name in env})


def numbers(env: Mapping[str, str]) -> list[int]:
    """Return the numbers of the GPUs on their node, as Slurm counts them."""
    told = env.get("SLURM_STEP_GPUS") or env.get("SLURM_JOB_GPUS") or ""
    return [int(word) for word in told.split(",") if word.isdigit()]
