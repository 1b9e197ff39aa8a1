"""The part of a node that a scheduler allocated, as a target: like `local`, but who gets what is decided already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.cache import Cache
from launcher.errors import UsageError
from launcher.job import Job
from launcher.node.gpus import Given
from launcher.node.images import SIF_RUNTIMES, Delivered
from launcher.target.gpus import Claimed
from launcher.target.local import Local
from launcher.target.model import Process, Runtime, Work
from launcher.target.runtimes import RUNTIMES


class Allocated(Local):
    """A Target. `folder_of` of a run on several nodes lies where all of them see it."""

    name = "slurm"

    def __init__(self, cache: Cache, runtimes: Sequence[Runtime], given: Given, shared: Path | None = None) -> None:
        super().__init__(cache, runtimes)
        self.given, self.shared = given, shared

    def refusals(self, job: Job) -> tuple[str, ...]:
        """Return nothing: the scheduler knows what the node has, and the runner looks at its GPUs."""
        return ()

    def folder(self, run: str) -> Path:
        return super().folder(run) if self.shared is None else self.shared

    def claim_gpus(self, job: Job) -> Claimed:
        return Claimed(self.given.devices, ())

    def join(self, work: Work) -> Process:
        """Start what another node of an attempt runs: nothing is claimed, for the first node has done that."""
        folder = self.folder(work.job.run)
        return self.begin(work, folder, self.given.devices)


def runtime_of(name: str, cache: Cache, delivered: Delivered, sif: Path | None) -> Runtime:
    """Return the site's runtime, ready for an image that was delivered. Raises UsageError for one there is not."""
    cache.write_note("accounts", delivered.image.id, dict(delivered.accounts))
    if name in SIF_RUNTIMES:
        from launcher.target.apptainer import Apptainer

        return Apptainer(cache, sif)
    if name not in RUNTIMES:
        raise UsageError(
            f"there is no runtime `{name}`", hint=f"there are {', '.join(RUNTIMES)}: set it in the profile"
        )
    return RUNTIMES[name](cache)
