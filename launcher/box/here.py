"""A box as a target: like `local`, with the image that was delivered and the GPUs that the queue gave."""

from __future__ import annotations

import fcntl
import os
from functools import cached_property
from pathlib import Path

from launcher.box import left
from launcher.box.model import Order
from launcher.cache import Cache
from launcher.job import Job
from launcher.node import images, staging
from launcher.node.allocated import runtime_of
from launcher.profiles.places import Places
from launcher.target import architecture, secrets
from launcher.target.docker import Docker
from launcher.target.gpus import Claimed
from launcher.target.local import Local, LocalProcess, hold
from launcher.target.model import Process, Runtime

NOTHING = Claimed((), ())


class Here(Local):
    """A Target. `claimed` is what the next attempt gets."""

    name = "ssh"

    def __init__(self, order: Order) -> None:
        super().__init__(Cache(Path(Places(order.folder).cache())), ())
        self.order, self.claimed = order, NOTHING

    def refusals(self, job: Job) -> tuple[str, ...]:
        """Return nothing: who sent the job has looked, and so does the runner."""
        return ()

    def claim_gpus(self, job: Job) -> Claimed:
        given, self.claimed = self.claimed, NOTHING
        return given

    def sign(self, run: str) -> Path:
        """Return the file that the runner of a run holds while it lives."""
        return self.folder(run) / "inside" / "attempt.json"

    @cached_property
    def delivered(self) -> images.Delivered:
        return images.read(self.order.folder, self.order.image)

    def make_ready(self) -> None:
        """Find the runtime and the image. Raises TargetError, UsageError, IntegrityError."""
        if not self.runtimes:
            architecture.refuse(self.order.architecture)
            self.runtimes = [self.runtime()]

    def runtime(self) -> Runtime:
        sif = staging.sif_of(self.delivered, self.cache, self.order)
        found = runtime_of(self.order.profile.runtime, self.cache, self.delivered, sif)
        return Docker(self.order.reference) if found.name == "docker" and self.order.reference else found

    def left(self, run: str, printed: dict[int, int], gpus: Claimed) -> LocalProcess | None:
        """Return what an attempt left running here, to be looked after as if we had started it.

        Raises TargetError when nobody can tell: the engine doesn't answer; StillRunning when another one holds the run.
        """
        process = left.find(self.order.profile.runtime, run, printed)
        if process is None:
            return None
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        held = hold(folder, run)
        return LocalProcess(process, folder, held, gpus, self.handed(process))

    def handed(self, process: Process) -> secrets.Handed | None:
        """Return the credentials that a container has, to keep them fresh."""
        place = process.secrets if isinstance(process, left.DockerLeft) else None
        if place is None or not (place / secrets.HELD).exists():
            return None
        descriptor = os.open(place / secrets.HELD, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return secrets.Handed(self.order.store, place, descriptor)
