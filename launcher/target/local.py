"""The target `local`: runs jobs on this machine, in a sandbox, in Docker, Podman or Apptainer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from launcher.cache import Cache, disk_full
from launcher.errors import TargetError
from launcher.gpu.model import Device, Node
from launcher.gpu.probe import probe
from launcher.gpu.verdict import findings
from launcher.job import Job
from launcher.store import folder_of
from launcher.store.keys import quoted
from launcher.target import machine, secrets
from launcher.target.gpus import Claimed, claim
from launcher.target.layout import container
from launcher.target.living import is_held
from launcher.target.model import Container, Ending, Process, Runtime, StillRunning, Unusable, Work
from launcher.target.trees import make_removable

DYING_S = 3.0  # a container that dies with its client takes a moment to


class Local:
    """A Target. The runtimes are tried in order; the first that can start the container does."""

    name = "local"

    def __init__(self, cache: Cache, runtimes: Sequence[Runtime], *, ask: Callable[[], Node] = probe) -> None:
        self.cache = cache
        self.runtimes = runtimes
        self.ask = ask
        self.claims: dict[str, int] = {}

    def refusals(self, job: Job) -> tuple[str, ...]:
        """Return every reason why this machine can't run the job."""
        wants, found = job.resources, []
        if wants.nodes > 1:
            found.append(f"the job wants {wants.nodes} nodes, and this is one machine")
        if wants.gpus.count:
            verdicts = findings(job.gpu, self.node, wanted=wants.gpus)
            found += [finding.says for finding in verdicts if finding.verdict == "refused"]
        if wants.cpus and wants.cpus > (cpus := len(os.sched_getaffinity(0))):
            found.append(f"the job wants {wants.cpus} CPUs, and this machine gives {cpus}")
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if wants.memory_bytes and wants.memory_bytes > memory:
            found.append(f"the job wants {wants.memory_bytes / 1e9:.1f} GB, and this machine has {memory / 1e9:.1f} GB")
        return tuple(found)

    @cached_property
    def node(self) -> Node:
        """What this machine's GPUs are; asked once."""
        return self.ask()

    def knows(self, run: str) -> bool:
        """Tell whether an attempt of this run was started on this machine and left something here."""
        return self.folder(run).exists()

    def last_attempt(self, run: str) -> int | None:
        """Return the number of the attempt that was started last on this machine, if it left something here.

        Machines may share a cache: what another one started is not this one's.
        """
        try:
            told = json.loads((self.folder(run) / "inside" / "attempt.json").read_bytes())
            return int(told["attempt"]) if told["machine"] == machine.name() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def folder(self, run: str) -> Path:
        return self.cache.root / "runs" / quoted(run)

    def claim(self, run: str) -> None:
        """Keep others of this machine from starting an attempt, before anything is said of this one in the store.

        Raises StillRunning when one is under way; DiskFullError.
        """
        folder = self.folder(run)
        with disk_full(self.cache.root):
            folder.mkdir(parents=True, exist_ok=True)
            held = hold(folder, run)
            try:
                refuse_living(folder / "inside" / "attempt.json", run)
            except BaseException:
                os.close(held)
                raise
            self.claims[run] = held

    def start(self, work: Work) -> LocalProcess:
        """Start an attempt; its output goes to this process's stdout and stderr.

        Raises TargetError when the job can't run here or when no runtime can start it; StillRunning when another
        attempt of the run is under way; DiskFullError.
        """
        if found := self.refusals(work.job):
            raise TargetError("; ".join(found), hint="ask for less under `resources:`, or run it where there is more")
        run = work.job.run
        folder = self.folder(run)
        if run not in self.claims:
            self.claim(run)
        held = self.claims.pop(run)
        with disk_full(self.cache.root), contextlib.ExitStack() as undo:
            undo.callback(os.close, held)
            gpus = self.claim_gpus(work.job)
            undo.callback(gpus.release)
            handed = None if folder_of(work.store.url) is not None else secrets.hand_over(work.store, self.cache)
            if handed:
                undo.callback(handed.release)
            process = LocalProcess(self.begin(work, folder, gpus.devices, handed), folder, held, gpus, handed)
            undo.pop_all()
            return process

    def claim_gpus(self, job: Job) -> Claimed:
        """Claim the GPUs that a job wants. Raises TargetError when too few are free."""
        node = self.node if job.resources.gpus.count else Node()
        sign = self.folder(job.run) / "inside" / "attempt.json"
        return claim(job.resources.gpus, node, job.run, self.cache, job.gpu, sign)

    def begin(
        self, work: Work, folder: Path, gpus: tuple[Device, ...] = (), handed: secrets.Handed | None = None
    ) -> Process:
        def described(runtime: Runtime) -> Container:
            ids = {"user": os.getuid(), "group": os.getgid()}
            place = handed.folder if handed else None
            return container(work, self.cache, folder, **ids, gpus=gpus, runtime=runtime.name, handed=place)

        if len(self.runtimes) == 1:
            return self.runtimes[0].start(described(self.runtimes[0]))
        problems = []
        for runtime in self.runtimes:
            reason = runtime.refusal()
            if reason is None:
                try:
                    return runtime.start(described(runtime))
                except Unusable as e:
                    reason = str(e)
            problems.append(f"{runtime.name}: {reason}")
        raise TargetError("nothing here can run a container:\n  " + "\n  ".join(problems))


class LocalProcess:
    """An attempt that runs on this machine. Its folder goes when all that it held is in the store."""

    def __init__(
        self, process: Process, folder: Path, held: int, gpus: Claimed, handed: secrets.Handed | None = None
    ) -> None:
        self.process, self.folder, self.held, self.gpus, self.handed = process, folder, held, gpus, handed
        if handed:
            handed.keep_fresh()

    def signal(self, number: int) -> None:
        self.process.signal(number)

    def wait(self) -> Ending:
        try:
            return self.process.wait()
        finally:
            os.close(self.held)
            self.gpus.release()
            if self.handed:
                self.handed.release()

    def discard(self) -> None:
        """Remove what the attempt left on this machine. Call it when the store has everything."""
        make_removable(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".lock").unlink(missing_ok=True)


def hold(folder: Path, run: str) -> int:
    """Take the run's lock on this machine: two attempts at once would write over each other."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StillRunning(
            f"an attempt of {run} is running on this machine", hint=f"`launcher logs -f {run}` follows it"
        ) from e
    return descriptor


def refuse_living(told: Path, run: str) -> None:
    """Raise StillRunning while a runner holds the file that it was started with: a client may die before it does."""
    until = time.monotonic() + DYING_S
    while is_held(told):
        if time.monotonic() > until:
            raise StillRunning(
                f"an attempt of {run} is still running on this machine, although what started it is gone",
                hint=f"`launcher logs -f {run}` follows it",
            )
        time.sleep(0.05)
