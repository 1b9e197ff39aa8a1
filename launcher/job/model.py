"""The noun: a job, one run fully decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.gpu.model import Gpu
from launcher.spec.model import Keep, Param, Resources

JOB_VERSION = 1


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
    sweep: str | None = None  # the sweep that it is a point of
    point: int | None = None  # its place in the sweep's plan, from 0
    retries: int = 0  # how often its command is run again when it failed
    restart: bool = True  # whether an attempt that was lost with its machine is followed by another one
