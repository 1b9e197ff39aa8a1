"""What is needed before an attempt begins: GPUs, an engine that answers, and nothing of the run that still lives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from launcher.box.asked import Asked
from launcher.box.here import NOTHING, Here
from launcher.box.left import lives
from launcher.box.output import NAME, printed
from launcher.box.queue import Queue, Waiting
from launcher.box.telling import Teller
from launcher.errors import TargetError
from launcher.job import Job
from launcher.target.gpus import Claimed, name_of
from launcher.target.local import LocalProcess
from launcher.target.model import StillRunning

LOOK_S = 0.5  # between two looks at the queue
ENGINE_S = 1.0  # between two tries of an engine that doesn't answer
log = logging.getLogger(__name__)


class Ready:
    """Waits, and tells what for."""

    def __init__(self, folder: Path, job: Job, target: Here, queue: Queue, asked: Asked, tell: Teller) -> None:
        self.folder, self.job, self.target, self.queue = folder, job, target, queue
        self.asked, self.tell = asked, tell

    def gpus(self) -> Claimed:
        """Return the GPUs of the next attempt, when its turn has come. Raises Stopped, TargetError."""
        wanted = self.job.resources.gpus
        if not wanted.count:
            return NOTHING
        while isinstance(found := self.queue.take(wanted, self.target.node, self.job.gpu), Waiting):
            self.tell("waiting", place=found.place, why=found.why)
            self.asked.sleep(LOOK_S)
        return found

    def engine(self) -> None:
        """Wait for the engine, which may start later than we do. Raises Stopped, TargetError."""
        self.target.make_ready()
        told = False
        while self.target.order.profile.runtime == "docker" and (why := self.target.runtimes[0].refusal()):
            if not told:
                log.warning("%s; waiting for it", why)
                told = True
            self.tell("waiting", why=why)
            self.asked.sleep(ENGINE_S)

    def free(self) -> None:
        """Hold the run's place on this machine; wait for the end of what a killed host side left. Raises Stopped."""
        told = False
        while self.job.run not in self.target.claims:
            try:
                self.target.claim(self.job.run)
            except StillRunning as e:
                if not told:
                    log.warning("%s; waiting for its end", e.problems[0].message)
                    told = True
                self.asked.sleep(LOOK_S)

    def left(self, number: int, gpus: Sequence[str]) -> LocalProcess | None:
        """Return the container that an attempt left here, to be looked after again, with its GPUs held again.

        Waits for an engine that doesn't answer, which alone knows. Raises Stopped, when that isn't a wish to cancel.
        """
        known = printed(self.folder / NAME, number)
        while True:
            try:
                held = self.queue.take_again(gpus, self.target.node) if gpus else Claimed((), ())
                found = self.target.left(self.job.run, known, held)
            except TargetError as e:
                self.tell(self.tell.state.phase, why=e.problems[0].message)
                self.asked.sleep(ENGINE_S)
                continue
            if found is None:
                held.release()
            elif lives(found.process):  # one that had ended, at a reboot say, has its place in the queue again
                self.queue.note(tuple(gpus))
            return found

    def names(self) -> tuple[str, ...]:
        """Return what the next attempt has, by name."""
        return tuple(map(name_of, self.target.claimed.devices))
