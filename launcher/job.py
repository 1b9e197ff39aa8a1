"""A job: one run, fully decided, a plain value. JSON is its wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.spec.model import Param, Resources


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a target needs to run it and that a record needs to run it again.

    `run` is the run id, chosen before anything is submitted. `argv` is the final command: nothing is left to fill in.
    """

    run: str
    name: str
    lock: str  # sha256 of the lock file's bytes
    image: str  # image id: sha256 of the OCI config
    code: str  # tree digest of the code snapshot
    command: str | tuple[str, ...]  # as the spec has it, with its {places}
    argv: tuple[str, ...]
    params: Mapping[str, Param] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)  # name -> sha256
    resources: Resources = field(default_factory=Resources)
    outputs: tuple[str, ...] = ("**",)
    determinism: str = "seed"
    seed: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
