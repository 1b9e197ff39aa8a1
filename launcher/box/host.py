"""One run on this box, from its order to its last word: attempts, one after another, and what follows."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.box import deciding
from launcher.box.asked import Asked
from launcher.box.deciding import Verdict
from launcher.box.here import NOTHING, Here
from launcher.box.model import Order
from launcher.box.output import Capture, Writer
from launcher.box.past import Past
from launcher.box.queue import Queue
from launcher.box.ready import Ready
from launcher.box.telling import Teller
from launcher.errors import DiskFullError, TargetError
from launcher.job import from_json
from launcher.node import memory
from launcher.node.deciding import Seen
from launcher.node.point import in_short
from launcher.node.reach import times
from launcher.runner.backoff import Backoff
from launcher.target.model import Ending, Work

if TYPE_CHECKING:
    from launcher.records import Record
    from launcher.target.local import LocalProcess

FLUSH_S = 7 * 86400.0  # so long a runner waits for its store: credentials that ended may be brought days later
log = logging.getLogger(__name__)


class Host:
    """The host side of a run. Only who holds the run's folder may make one."""

    def __init__(self, folder: Path, order: Order, asked: Asked, out: Writer, tell: Teller) -> None:
        self.order, self.asked, self.out, self.tell = order, asked, out, tell
        self.job, self.run = from_json(json.dumps(order.job)), order.run
        self.target, self.past = Here(order), Past(order, asked, tell)
        self.queue = Queue(order.folder, self.run, self.target.sign(self.run))
        self.ready = Ready(folder, self.job, self.target, self.queue, asked, tell)
        self.backoff = Backoff(1.0)
        self.kills = memory.everywhere()

    def to_the_end(self) -> Verdict:
        """Run attempts until there is nothing more to do here. Raises Stopped, LauncherError."""
        found = self.before()
        while found is None or found.decision == "again":
            if found is not None:
                self.out.say(self.tell.state.attempt or 0, f"{found.why}; another attempt follows")
                self.tell("waiting", why=found.why)
                if found.cause != "command":
                    self.asked.sleep(self.backoff.pause_s(0.2))
            found = self.attempt()
        return found

    def before(self) -> Verdict | None:
        """Look after what an earlier host side left; return what follows, or None where nothing has begun."""
        number = self.target.last_attempt(self.run)
        if number is not None and number >= self.order.attempt:
            process = self.ready.left(number, self.tell.state.gpus)
            if process is not None:
                log.info("attempt %d left a container: it is looked after again", number)
                return self.looked_after(number, process)
        self.ready.free()
        record = self.past.until(self.past.record)
        if record is None or not record.attempts:
            return None
        return deciding.standing(record, self.order.attempt) or self.interrupted(record)

    def interrupted(self, record: Record) -> Verdict | None:
        """Return what follows the last attempt, which nobody here saw end."""
        last = record.attempts[-1]
        if last.attempt < self.order.attempt:
            return None
        if not self.past.is_mine(last):
            return others(last.attempt)
        begun = deciding.has_begun(last) or self.target.last_attempt(self.run) == last.attempt  # and could not say so
        if last.parted or not begun:
            return None
        return self.settle(last.attempt, "what ran it was killed, or the machine was", Seen(tries=2))

    def attempt(self) -> Verdict:
        """Begin an attempt, wait for its end, and say what follows."""
        self.past.wait_for_credentials()
        self.target.claimed = self.ready.gpus()
        try:
            self.tell("starting", gpus=self.ready.names(), why="")
            self.ready.engine()
            self.ready.free()
            number = self.past.until(self.past.queue)
            if number is None:
                return self.taken()
            return self.begin(number)
        finally:
            self.target.claimed.release()
            self.target.claimed = NOTHING

    def taken(self) -> Verdict:
        """Return what follows when somebody else has queued an attempt."""
        record = self.past.until(self.past.record)
        last = record.attempts[-1].attempt if record else self.order.attempt
        return others(last)

    def begin(self, number: int) -> Verdict:
        self.asked.check()
        self.tell("starting", attempt=number, why="")
        try:
            with Capture(self.out, number):
                process = self.target.start(self.work(number))
                ending = self.watched(number, process)
        except (TargetError, DiskFullError, OSError) as e:
            log.warning("%s", e)
            return self.settle(number, f"it could not be started: {in_short(e)}", Seen(asked=self.asked.why, tries=2))
        return self.ended(number, process, ending)

    def looked_after(self, number: int, process: LocalProcess) -> Verdict:
        """Look after a container that somebody else started, to its end."""
        with Capture(self.out, number):
            ending = self.watched(number, process)
        return self.ended(number, process, ending)

    def watched(self, number: int, process: LocalProcess) -> Ending:
        self.tell("running", attempt=number, why="")
        self.asked.follow(process)
        try:
            return process.wait()
        finally:
            self.asked.follow(None)

    def ended(self, number: int, process: LocalProcess, ending: Ending) -> Verdict:
        """Return what follows when a container is gone, or its engine stopped answering while it may go on."""
        if ending.lost and (again := self.ready.left(number, self.tell.state.gpus)) is not None:
            log.info("the engine has the container of attempt %d still: it is looked after again", number)
            return self.looked_after(number, again)
        seen = Seen(asked=self.asked.why, memory=self.killed(), tries=2)
        return self.settle(number, f"its container ended: {ending}", seen, process)

    def killed(self) -> int | None:
        """Return how often the kernel has killed for want of memory since the last attempt began."""
        before, self.kills = self.kills, memory.everywhere()
        return None if before is None or self.kills is None else self.kills - before

    def settle(self, number: int, ending: str, seen: Seen, process: LocalProcess | None = None) -> Verdict:
        """Write how an attempt ended, where its runner could not; say what follows, in the store too."""
        record = self.past.after(lambda: self.past.ended(number, ending))
        if record is None:
            why = "the attempt before it has not ended, and this one could wait no longer"
            return Verdict(decision="again", cause="lost", why=why)
        wish = {"first": self.order.attempt, "retries": self.job.retries, "restart": self.job.restart}
        found = deciding.decide(record, number, seen, **wish)  # type: ignore[arg-type]
        log.info("attempt %d: %s%s", number, found.decision, f" ({found.why})" if found.why else "")
        if found.decision != "done" and found.cause != "superseded":
            self.past.part(number, found)
        if record.complete and process is not None:
            process.discard()
        return found

    def work(self, number: int) -> Work:
        return Work(
            job=self.job,
            image=self.target.delivered.image,
            code=Path(self.order.code),
            store=self.order.store,
            attempt=number,
            seen_dead=number > 1 and self.target.last_attempt(self.run) == number - 1,
            data={name: Path(path) for name, path in self.order.data.items()},
            origins=dict(self.order.origins),
            requeue=self.job.restart,
            host=facts_of(self.order, self.tell.state.node),
            times=times(self.order.profile.warn_s) | ({"flush_s": FLUSH_S} if self.order.ship == "direct" else {}),
        )


def facts_of(order: Order, node: str) -> dict[str, object]:
    """Return what the record says of a box besides what the runner sees: its names, and what runs the container."""
    name = order.profile.runtime
    engine = next((one for one in order.profile.box.engines if one.name == name), None) if order.profile.box else None
    version = f" {engine.version}" if engine and engine.version else ""
    return {"node": node, "target": order.profile.name, "engine": f"{name}{version}"}


def others(attempt: int) -> Verdict:
    why = f"attempt {attempt} has the run"
    return Verdict(decision="failed", cause="superseded", why=why, code=deciding.TEMPORARY)
