"""One attempt from its first to its last moment: restore, start, watch, flush, end with the command's code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

from launcher import __version__
from launcher.runner import alive, command, folder
from launcher.runner import attempt as attempts
from launcher.runner.clock import say
from launcher.runner.environment import command_environment
from launcher.runner.freight import Progress
from launcher.runner.outbox import Item, Outbox
from launcher.runner.renames import Renames
from launcher.runner.signals import Signals
from launcher.runner.spool import Chunk, Spool
from launcher.runner.tally import Tally
from launcher.runner.tee import Tee
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.keeper import Keeper
    from launcher.runner.others import Gathering
    from launcher.runner.standing import Standing

NOT_SUPERVISED = 125


def run(path: str) -> int:
    """Supervise the attempt that a file describes; return its exit code, or 125 when it can't be supervised."""
    try:
        attempt = attempts.read(path)
        if attempt.follows:
            return follow(attempt)
        alive.hold(path, attempt)
        supervisor = Supervisor(attempt)
        folder.prepare(attempt)
        supervisor.unfit = unfit(attempt)
        if attempt.number > 1 and supervisor.unfit is None:
            supervisor.standing = resume(attempt, supervisor.outbox, supervisor.signals)
    except attempts.AttemptError as e:
        say(str(e))
        return NOT_SUPERVISED
    except OSError as e:
        say(f"the run's folder can't be used: {e}")
        return NOT_SUPERVISED
    return supervisor.run()


def follow(attempt: Attempt) -> int:
    """Run the command beside the leader's, and record nothing."""
    from launcher.runner import following

    return following.run(attempt)


def unfit(attempt: Attempt) -> command.NotStarted | None:
    """Return why this node can't serve the job. One that asks for no GPU isn't held up by looking for them."""
    if not ((attempt.job.get("resources") or {}).get("gpus") or {}).get("count"):
        return None
    from launcher.runner import preflight

    return preflight.unfit(attempt, command_environment(attempt, os.environ))


def tell_followers(attempt: Attempt) -> None:
    """Let the other nodes' commands begin: the folder is as this attempt finds it, its checkpoint is there."""
    from launcher.runner import following

    following.tell(attempt)


def gathering(spool: Spool, attempt: Attempt) -> Gathering:
    """Return the spool with what the other nodes' commands print."""
    from launcher.runner import others

    return others.Gathering(spool, attempt)


def resume(attempt: Attempt, outbox: Outbox, signals: Signals) -> Standing:
    """Claim the run and bring back its newest whole checkpoint. Raises AttemptError."""
    from launcher.runner import standing

    return standing.resume(attempt, outbox, signals.asked_early)


class Supervisor:
    """Holds together the command, what watches it, and the two threads that store."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.outbox = attempt, Outbox(attempt)
        self.standing: Standing | None = None  # of a first attempt once something is to be written
        self.unfit: command.NotStarted | None = None
        self.renames: Renames | None = None
        self.keeper: Keeper | None = None
        self.ending, self.finished = threading.Event(), threading.Event()
        most = attempt.limits.get("spool_bytes", attempts.LIMITS["spool_bytes"])
        self.spool = Spool(attempt.path("spool", str(attempt.number)), attempt.times["ship_s"], self.post_logs, most)
        self.tally = Tally(attempt, self.spool)
        self.signals = Signals(attempt.times["grace_s"], self.signalled)
        self.command_over = False

    def run(self) -> int:
        try:
            self.signals.refuse_early()
            if self.unfit is not None:
                raise self.unfit
            environment = command_environment(self.attempt, os.environ)
            self.renames = Renames(self.attempt.path("checkpoints"))  # before the command can rename anything
            child = command.start(self.attempt.argv, self.attempt.cwd, environment)
        except command.NotStarted as e:
            if e.by is None:  # the preflight has told its own
                say(e.reason)
            self.started(None)
            code = self.ended(e.code, None, e.reason, e.by)
        else:
            self.signals.watch(child)
            if self.attempt.nodes > 1:
                tell_followers(self.attempt)
            self.started(child.pid)
            code = self.watch(child)
        self.spool.rotate()
        self.flush()
        return code

    def watch(self, child: command.Command) -> int:
        """Pass output on until the command has ended, and clean up behind it."""
        try:
            others = gathering(self.spool, self.attempt) if self.attempt.nodes > 1 else None
            tee = Tee(child, others or self.spool, self.signals)
            code = self.ended(*command.exit_of(tee.until_end()))
            tee.drain(self.attempt.times["left_s"])
            if others:
                others.look(time.monotonic())
        except BaseException:  # a bug here must not leave the command alone
            child.send(signal.SIGKILL)
            raise
        return code

    def started(self, pid: int | None) -> None:
        facts: dict[str, Any] = {"runner": __version__, "python": sys.version.partition(" ")[0]}
        self.outbox.event("started", **facts, pid=pid, heartbeat_s=self.attempt.times["heartbeat_s"])
        folder.rescue_logs(self.attempt, self.outbox)
        ship = (self.attempt.times["ship_s"], self.tally.pulse)
        threading.Thread(target=self.outbox.work, args=ship, daemon=True).start()
        threading.Thread(target=self.keep, daemon=True).start()

    def ended(self, code: int, killer: str | None, reason: str | None = None, by: str | None = None) -> int:
        self.signals.take()
        self.command_over = True
        if (
            killer or code > 128 or (code and not self.tally.stopped)
        ):  # killed, or an error that may have come in a save
            self.tally.cut_off_at = time.time()
        if self.signals.killed_by_us and killer == "SIGKILL":
            how = "was asked to stop again" if self.signals.asked_again else "did not end in time"
            reason = f"{how} after {self.tally.stopped}, so it was killed"
        self.outbox.event("ended", code=code, signal=killer, reason=reason, **({"by": by} if by else {}))
        return code

    def keep(self) -> None:
        """Run in a thread. What storing needs is imported only here: the command is running by now."""
        from launcher.runner.keeper import Keeper

        self.keeper = Keeper(self.attempt, self.outbox, self.tally, self.standing, self.renames)
        self.keeper.work(self.ending)
        self.finished.set()

    def post_logs(self, chunk: Chunk) -> None:
        self.outbox.post(Item(keys.log(self.attempt.run, self.attempt.number, chunk.seq), b"", chunk))

    def signalled(self, name: str, stops: bool, forwarded: bool) -> None:
        if stops and not self.command_over:
            self.tally.stopped = self.tally.stopped or name
        self.outbox.event("signal", signal=name, stops=stops, forwarded=forwarded)

    def flush(self) -> None:
        """Wait until everything is in the store, or until it is clear that this takes too long."""
        self.ending.set()
        ended_at = time.monotonic()
        progress = Progress(self.outbox.freight)
        while not self.finished.wait(0.1):
            self.signals.take()
            progress.tick(len(self.outbox.waiting), self.outbox.failing)
            if self.signals.enough or time.monotonic() > self.deadline(ended_at):
                progress.over()
                self.give_up()
                return
        progress.over()

    def deadline(self, ended_at: float) -> float:
        """Patience counts from the last thing that moved: a large checkpoint may take as long as it takes."""
        patience_s = self.attempt.times["flush_s" if self.signals.stopped_at is None else "stop_flush_s"]
        return max(ended_at, self.outbox.freight.moved_at) + patience_s

    def give_up(self) -> None:
        """Say what did not get into the store; the run's folder keeps a note of it."""
        missing = [*self.outbox.lost, *(item.key for item in list(self.outbox.waiting))]
        if self.keeper is not None:
            missing += self.keeper.pending()
        say(f"{len(missing)} things are not in the store ({self.outbox.failing or 'no time left'}):")
        for name in missing[:10]:
            say(f"  {name}")
        with contextlib.suppress(OSError), open(self.attempt.path("missing.json"), "w") as stream:
            json.dump({"missing": missing, "events": self.outbox.posted}, stream, indent=1)
