"""One point of a sweep on this node, from the order to its last word: attempts, one after another, and what follows."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import records
from launcher.errors import DiskFullError, LauncherError, ObjectExistsError, TargetError, UsageError
from launcher.job.sweeps import Plan
from launcher.node import deciding, gpus, images, memory, ranks, scontrol, staging
from launcher.node.allocated import Allocated, runtime_of
from launcher.node.deciding import Seen
from launcher.node.order import Order
from launcher.node.patience import Patience
from launcher.node.reach import open_store, times
from launcher.node.stopping import Stopped, Stopping
from launcher.node.task import Task
from launcher.node.told import TEMPORARY, Outcome
from launcher.profiles.places import Places
from launcher.store import keys
from launcher.target import architecture
from launcher.target.model import Ending, StillRunning, Work

if TYPE_CHECKING:
    from launcher.records import Record
    from launcher.store.objects import Store
    from launcher.target.local import LocalProcess

ALIVE_S = 90.0  # how long a container of a killed host side may take to go
NUMBERS = 5  # so often somebody else may take the attempt's number before us
log = logging.getLogger(__name__)


class Point:
    """One point, at its place `index` in the plan."""

    def __init__(self, order: Order, plan: Plan, index: int, task: Task, stopping: Stopping) -> None:
        self.order, self.plan, self.index, self.task, self.stopping = order, plan, index, task, stopping
        self.job = plan.job(index)
        self.run = self.job.run
        self.patience = Patience(stopping)
        self.after = Patience(None)  # once there is something to lose: nobody's wish to stop cuts it short
        self.leader = ranks.Leader(order, task) if task.nodes > 1 else None
        self.tries = 0

    @cached_property
    def store(self) -> Store:
        return open_store(self.order)

    def to_the_end(self) -> Outcome:
        """Run attempts until there is nothing more to do here. Raises Stopped, LauncherError."""
        try:
            found = self.patience.until(self.standing)
            if found:
                log.info("%s: nothing to do: %s", self.run, found.why)
            while found is None or found.decision == "again":
                found = self.attempt()
                log.info("%s: %s%s", self.run, found.decision, f" ({found.why})" if found.why else "")
            if found.decision == "done" and found.attempt:
                self.after.until(self.tell_point)
            return found
        finally:
            if self.leader:
                self.leader.over()

    def standing(self) -> Outcome | None:
        """Return why nothing is to be done, or None."""
        if self.is_cancelled():
            return Outcome(decision="done", why="it was cancelled", run=self.run)
        record = self.record()
        return deciding.standing(record, self.order.token, self.job.retries) if record else None

    def is_cancelled(self) -> bool:
        if not self.store.exists(keys.cancelled(self.order.sweep)):
            return False
        from launcher.records.sweeps import cancelled  # it brings much along, and most sweeps need it never

        return self.index in cancelled(self.store, self.order.sweep)

    def record(self) -> Record | None:
        try:
            return records.load(self.store, self.run)
        except UsageError:
            return None

    def attempt(self) -> Outcome:
        """Begin an attempt, wait for its end, and say what follows."""
        target = self.target
        self.wait_for_the_dead(target)
        self.stopping.check()
        number = self.patience.until(self.queue)
        before = memory.kills()
        try:
            process = self.start(target, number)
        except Exception as e:
            return self.not_started(number, e)
        ending = self.watched(process)
        self.tries += 1
        record = self.after.until(lambda: self.settled(number, f"its container ended: {ending}"))
        if record is None:
            return self.gave_way()
        fallen = self.leader.fallen if self.leader else None
        seen = Seen(asked=self.asked(), memory=memory.since(before), fallen=fallen, tries=self.tries)
        found = deciding.taken(record, number)
        found = found or deciding.decide(record, seen, token=self.order.token, retries=self.job.retries)
        if record.complete:
            process.discard()
        self.part(found)
        return found

    def asked(self) -> str | None:
        """Return why the run was asked to stop. Where Slurm's environment has no end of the job's time (22.05 has not)
        a warning may as well be that of a preemption."""
        said = self.stopping.asked
        if said == "time limit" and self.task.ends is None and scontrol.is_preempted(self.task):
            return "preempted"
        return said

    def not_started(self, number: int, error: Exception) -> Outcome:
        """Write down that an attempt came to nothing, and try it elsewhere. Raises what is no fault of the node's."""
        why = in_short(error)
        record = self.after.until(lambda: self.settled(number, f"it could not be started: {why}"))
        if record is None or isinstance(error, Stopped) or not isinstance(error, TargetError | DiskFullError):
            raise error
        log.warning("%s", error)
        found = deciding.taken(record, number) or deciding.onward(record, "refused", why)
        self.part(found)
        return found

    def watched(self, process: LocalProcess) -> Ending:
        """Wait for the end of a container, with signals passed on and the other nodes looked after."""
        self.stopping.follow(process)
        if self.leader:
            self.leader.watch(self.stopping)
        try:
            return process.wait()
        finally:
            self.stopping.follow(None)
            if self.leader:
                self.leader.end()

    @cached_property
    def target(self) -> Allocated:
        """This node, with the image at hand."""
        cache = staging.cache_of(self.order)
        staging.forget_old_runs(cache, time.time())
        architecture.refuse(self.order.architecture)
        sif = staging.sif_of(self.delivered, cache, self.order)
        runtime = runtime_of(self.order.profile.runtime, cache, self.delivered, sif)
        shared = Path(Places(self.order.profile.shared).run(self.run)) if self.leader else None
        return Allocated(cache, [runtime], gpus.given(self.job.resources.gpus.count), shared)

    @cached_property
    def delivered(self) -> images.Delivered:
        return images.read(self.order.profile.shared, self.order.image)

    def wait_for_the_dead(self, target: Allocated) -> None:
        """Hold the run's place on this node; wait for a container there whose host side was killed."""
        waited_s = 0.0
        while True:
            try:
                return target.claim(self.run)
            except StillRunning as e:
                if waited_s >= ALIVE_S:
                    raise
                if not waited_s:
                    log.warning("%s; waiting for its end", e.problems[0].message)
                waited_s += 5.0
                self.stopping.sleep(5.0)

    def queue(self) -> int:
        """Write down that an attempt begins here, and return its number. Raises TargetError, StoreError."""
        scheduler = self.task.facts(self.order.token, self.order.number)
        facts = self.order.code_facts or self.plan.code_facts
        job = Work.job_json(self.work(1))
        for _ in range(NUMBERS):
            number = records.next_attempt(self.store, self.run)
            who = self.order.who or self.plan.who
            if records.submit(self.store, job, code=facts, attempt=number, who=who, scheduler=scheduler):
                return number
        raise TargetError(f"others begin attempts of {self.run} all the time", hint="submit again later")

    def work(self, number: int) -> Work:
        given = gpus.given(self.job.resources.gpus.count) if "target" not in self.__dict__ else self.target.given
        env = dict(given.env or {})
        if self.task.nodes > 1:
            env |= ranks.variables(self.task, self.task.node, self.task.port)
        return Work(
            job=self.job,
            image=self.delivered.image,
            code=Path(self.order.code),
            store=self.order.store,
            attempt=number,
            data={name: Path(path) for name, path in self.order.data.items()},
            origins=dict.fromkeys(self.order.data, "place"),
            requeue=True,
            host={"node": self.task.node},
            env=env,
            times=times(self.order.profile.warn_s),
            mounts=given.mounts,
        )

    def start(self, target: Allocated, number: int) -> LocalProcess:
        """Start an attempt. Raises Stopped, TargetError."""
        seen_dead = number > 1 and target.last_attempt(self.run) == number - 1
        self.stopping.check()
        if self.leader:
            self.leader.begin({"attempt": number, "run": self.run})
        process = target.start(replace(self.work(number), seen_dead=seen_dead))
        log.info("%s: attempt %d begins on %s", self.run, number, self.task.node)
        if seen_dead:
            with contextlib.suppress(LauncherError):  # the claim says so as well
                records.end_for_dead(self.store, self.run, number - 1, "what ran it on the node was killed")
        return process

    def settled(self, number: int, ending: str) -> Record | None:
        """Return the record after an attempt, with its end in it: said by us where its runner could not.

        None for one that never began, as the one before goes on or has succeeded: nothing is left of it then.
        """
        if number > 1 and records.never_began(self.store, self.run, number):
            records.withdraw(self.store, self.run, number)
            return None
        found = records.load(self.store, self.run)
        mine = next(one for one in found.attempts if one.attempt == number)
        if mine.ended is None and not mine.superseded:
            records.end_for_dead(self.store, self.run, number, ending)
            found = records.load(self.store, self.run)
        return found

    def gave_way(self) -> Outcome:
        """Return what follows an attempt that never began, since the one before it had not ended."""
        found = self.after.until(self.standing)
        if found is not None:
            return found
        asked = self.asked()
        if asked and asked not in ("time limit", "preempted"):
            return Outcome(decision="hold", kind="asked", why=f"asked to stop by {asked}", code=TEMPORARY, run=self.run)
        why = "the attempt before has not ended, and this one could not wait any longer"
        return Outcome(decision="requeue", kind=asked or "lost", why=why, code=TEMPORARY, run=self.run)

    def part(self, found: Outcome) -> None:
        """Write what we decided beside the run's own events."""
        if found.attempt is None or found.decision == "done":
            return
        facts = {"decision": found.decision, "cause": found.kind, "why": found.why}
        attempt = found.attempt
        with contextlib.suppress(LauncherError):  # the state file says it too
            self.after.until(lambda: records.parted(self.store, self.run, attempt, facts))

    def tell_point(self) -> None:
        """Say that the point is finished, for sweeps that have it too."""
        with contextlib.suppress(ObjectExistsError):
            self.store.create(keys.point(self.plan.group, self.plan.digests[self.index]), self.run.encode())


def in_short(error: Exception) -> str:
    """Return an error in one line: a program's own words follow ours, and the last of them say most."""
    message = error.problems[0].message if isinstance(error, LauncherError) else str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or type(error).__name__
