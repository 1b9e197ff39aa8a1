"""The nouns of running: what a container is made of, and how one ended."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from launcher.errors import TargetError
from launcher.gpu.model import Device
from launcher.job import Job, to_json
from launcher.store.access import Access

if TYPE_CHECKING:
    from launcher.image.oci import Image


class Unusable(TargetError):  # noqa: N818 - reads as what it says of a runtime
    """A runtime that can't work on this machine, whatever the container; another one may."""


class StillRunning(TargetError):  # noqa: N818 - reads as what it says of a run
    """An attempt of the run lives on this machine: another one must not begin."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file or folder of the host at an absolute path inside."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Container:
    """One process tree in an image, fully decided: every runtime makes the same of it.

    `user` and `group` are the numbers that files are written with. `env` is the whole environment. Without
    `network` there is none, not even the machine's own addresses.
    """

    run: str
    image: Image
    argv: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    user: int
    group: int
    cwd: str = "/workspace"
    network: bool = True
    gpus: tuple[Device, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ended: an exit code, or the signal that killed it. `lost` tells that nobody saw it end."""

    code: int | None = None
    signal: int | None = None
    lost: str | None = None

    @property
    def exit_code(self) -> int:
        """What a shell would return: 128 + n for signal n; 137 when the end was not seen."""
        if self.code is not None:
            return self.code
        return 128 + (self.signal or signal.SIGKILL)

    def __str__(self) -> str:
        if self.lost:
            return self.lost
        if self.signal is not None:
            return f"killed by {signal.Signals(self.signal).name}"
        return f"exit code {self.code}"


class Process(Protocol):
    """A running container."""

    def signal(self, number: int) -> None: ...
    def wait(self) -> Ending: ...


class Runtime(Protocol):
    """What runs containers: the sandbox, Docker, Podman, Apptainer."""

    name: str

    def refusal(self) -> str | None:
        """Return why this runtime can't be used here, or None when it can."""
        ...

    def start(self, container: Container) -> Process:
        """Start a container whose output goes to this process's stdout and stderr. Raises TargetError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job with the things it names at hand.

    `code` is the archive's path; `data` maps a name to its file or folder, `origins` to where that
    came from ("place", "cache", "store", "source"), for the record; `store` is how this machine reaches it;
    `attempt` counts from 1. `seen_dead` tells that this machine saw the attempt before end: then this one need not wait
    until its claim on the run has lapsed.

    The rest is a scheduler's: `requeue` tells that the run goes on as another attempt when this one is asked to stop,
    `host` are facts for the record, `env` are variables for the command, `times` overrides the runner's, `mounts` come
    besides the usual ones. A `rank` over 0 is another node of an attempt: it runs the same command and records nothing.
    """

    job: Job
    image: Image
    code: Path
    store: Access
    attempt: int = 1
    seen_dead: bool = False
    data: Mapping[str, Path] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    requeue: bool = False
    host: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    rank: int = 0

    def job_json(self) -> Any:
        """Return the job in JSON's own types."""
        return json.loads(to_json(self.job))


class Target(Protocol):
    """Where jobs run."""

    name: str

    def refusals(self, job: Job) -> tuple[str, ...]:
        """Return every reason why this target can't run the job."""
        ...

    def start(self, work: Work) -> Process:
        """Start one attempt. Raises TargetError."""
        ...
