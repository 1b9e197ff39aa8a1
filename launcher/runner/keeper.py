"""The slow work beside the command: host facts, checkpoints while it runs, and everything that is left at the end."""

from __future__ import annotations

import json
import signal
import threading
import time

from launcher.runner import checkpoints, claims, fold, history, holding, host, outputs, priority
from launcher.runner.attempt import AttemptError
from launcher.runner.backoff import Backoff
from launcher.runner.bandwidth import Bandwidth
from launcher.runner.blobs import ChangedError, Sender
from launcher.runner.claims import Superseded
from launcher.runner.clock import say
from launcher.runner.outbox import reason
from launcher.runner.shipping import TRIES, Shipper, heals
from launcher.runner.standing import Standing
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.outbox import Outbox
    from launcher.runner.renames import Renames
    from launcher.runner.tally import Tally

FRAMEWORKS_BYTES = 1 << 16


class Keeper:
    """Runs in its own thread, with another one that ships, so that a checkpoint of many gigabytes holds back neither
    logs and heartbeats, nor the taking of the next one."""

    def __init__(
        self, attempt: Attempt, outbox: Outbox, tally: Tally, standing: Standing | None, renames: Renames | None
    ) -> None:
        self.attempt, self.outbox, self.tally = attempt, outbox, tally
        self.standing = standing or Standing(attempt, outbox)
        quiet = attempt.times["quiet_s"], attempt.times["quiet_folder_s"]
        self.watch = checkpoints.Watch(attempt.path("checkpoints"), *quiet, self.standing.signatures, renames)
        self.bandwidth = Bandwidth(attempt.job.get("bandwidth"))
        self.sender = Sender(outbox.freight, self.bandwidth)
        self.shipper = Shipper(attempt, outbox, self.standing, self.sender, self.lose, self.fence)
        self.outputs = outputs.Shipment(attempt, outbox, self.sender, self.lose)
        self.seq = 0
        self.missing: list[str] = []  # what did not get into the store, and why
        self.fenced: AttemptError | None = None  # why nothing of this attempt counts any more
        self.ending = False
        self.told: set[str] = set()

    def work(self, ending: threading.Event) -> None:
        """Keep until the command has ended, then finish."""
        priority.give_way()
        try:
            self.guarded("what was held before", lambda: holding.sweep(self.attempt, but=self.standing.held_at))
            self.guarded("host facts", self.tell_host)
            shipping = threading.Thread(target=self.shipper.work, daemon=True)
            shipping.start()
            while not ending.wait(self.attempt.times["look_s"]):
                self.guarded("checkpoints", lambda: self.take_checkpoints(final=False))
            self.begin_end()
            self.finish(shipping)
        except Exception as e:  # a bug here must not change how the run ends, and must not be silent
            say(f"what remained could not be stored: {type(e).__name__}: {e}")
            self.missing.append(f"{type(e).__name__}: {e}")
            self.close()

    def begin_end(self) -> None:
        """The command is gone: nobody is to be spared any more."""
        self.ending = True
        self.bandwidth.lift()
        self.shipper.spare_nobody()
        self.outbox.freight.restart()

    def guarded(self, what: str, action: Any) -> None:
        """Do something whose failure must not stop the rest; tell each failure once."""
        try:
            action()
        except Exception as e:
            problem = f"{what}: {type(e).__name__}: {e}"
            if problem not in self.told:
                self.told.add(problem)
                self.outbox.event("problem", text=problem)

    def tell_host(self) -> None:
        limits = {"hold_bytes": self.shipper.most_bytes}
        self.outbox.event("host", facts={**host.facts(), **self.attempt.host}, limits=limits)

    def tell_frameworks(self) -> None:
        """Tell which frameworks a strict run imported: of the process that saw the largest world."""
        try:
            with open(self.attempt.path("frameworks.jsonl")) as stream:
                lines = [json.loads(line) for line in stream.read(FRAMEWORKS_BYTES).splitlines()]
        except OSError:
            return
        if lines:
            world = max(lines, key=lambda line: int(line["world_size"]))["world_size"]
            merged = {name: value for line in lines for name, value in line.items()}
            self.outbox.event("frameworks", facts={**merged, "world_size": world})

    def finish(self, shipping: threading.Thread) -> None:
        """Store what remains: checkpoints, outputs, the last events, and the record as the last of all."""
        if self.tally.cut_off_at is not None:
            self.leave_doubtful(self.tally.cut_off_at)
        for _ in range(TRIES):
            if self.take_checkpoints(final=True):
                break
            time.sleep(self.attempt.times["retry_s"])
        self.leave_half()
        self.shipper.close()
        shipping.join()
        self.give_up_changed()
        if self.fenced is None:
            self.keep_outputs()
        self.guarded("frameworks", self.tell_frameworks)
        self.tally.collect(self.outbox, final=True)
        self.close()
        self.write_record()

    def leave_doubtful(self, cut_off_at: float) -> None:
        """Pass over checkpoints that may be half: the next attempt must start from a whole one."""
        for name in self.watch.doubtful(cut_off_at):
            sign = checkpoints.signature(self.attempt.path("checkpoints"), name)
            self.watch.taken[name] = sign
            text = f"the checkpoint {name} is not kept: it was perhaps being written when the command was cut off"
            self.outbox.event("problem", text=text)
            say(f"{text}; write beside and rename, and it is whole at any moment")

    def leave_half(self) -> None:
        """Tell of what by its own format was not written to its end, and is not taken."""
        for name in self.watch.half_ones():
            self.outbox.event("problem", text=f"the checkpoint {name} is not kept: it was not written to its end")
            say(f"the checkpoint {name} is not kept: it was not written to its end")

    def close(self) -> None:
        """Tell that nothing more comes, and what did not get into the store."""
        unwanted = [f"checkpoint {held.name}: {self.fenced}" for held in self.shipper.waiting]
        self.outbox.event("closed", missing=[*self.missing, *unwanted, *self.outbox.lost], **self.tally.as_json())

    def take_checkpoints(self, final: bool) -> bool:
        """Take hold of the checkpoints that are finished. Return whether all of them could be taken."""
        if self.fenced is not None:
            return True
        for name in self.shipper.written_to():
            self.watch.taken.pop(name, None)
        good = True
        for name, sign in self.watch.finished(time.monotonic(), final):
            try:
                held = holding.hold(self.attempt, name, self.seq, sign)
            except ChangedError:  # the next look will find it quiet, or renamed
                good = False
                continue
            held.rows = self.tally.summary.rows
            self.watch.taken[name] = sign
            self.seq += 1
            self.shipper.add(held)
        return good

    def give_up_changed(self) -> None:
        """Tell of checkpoints that somebody still wrote to when the command had ended."""
        for name in self.shipper.written_to():
            self.lose(f"checkpoint {name}: changed while it was stored")

    def keep_outputs(self) -> None:
        before = len(self.missing)
        lines = self.outputs.work()
        told = outputs.manifest(self.attempt, lines, self.missing[before:])
        if lines or told["missing"]:
            self.stubbornly("the outputs' manifest", lambda: self.commit_outputs(told))

    def commit_outputs(self, told: dict[str, Any]) -> None:
        """Write the manifest, if the run is still ours."""
        store = self.outbox.store()
        claim = self.standing.take()
        claim.check(store)
        outputs.commit(store, self.attempt, told)
        claim.check(store)
        key = keys.output_manifest(self.attempt.run, self.attempt.number)
        facts = {name: told[name] for name in ("digest", "bytes", "missing")}
        self.outbox.event("outputs", key=key, files=len(told["files"]), **facts)

    def stubbornly(self, what: str, action: Any) -> None:
        """Do something until it works; note it as missing if waiting does not heal what stands against it.

        The main thread's patience ends this when nothing moves for too long.
        """
        backoff, left = Backoff(self.attempt.times["retry_s"]), TRIES
        while True:
            try:
                action()
                return
            except AttemptError as e:
                self.fence(e)
                return
            except Exception as e:
                left -= not heals(e)
                if not left:
                    self.lose(f"{what}: {reason(e)}")
                    return
            time.sleep(backoff.pause_s())

    def lose(self, why: str) -> None:
        """Note what does not get into the store."""
        self.missing.append(why)
        say(f"not in the store: {why}")

    def fence(self, why: AttemptError) -> None:
        """Stop storing what counts, say why, and ask the command to stop: another attempt has the run."""
        if self.fenced is not None:
            return
        self.fenced = why
        if isinstance(why, Superseded):
            self.outbox.event("superseded", **why.facts())
        else:
            self.outbox.event("problem", text=str(why))
        say(f"{why}: what this attempt makes from now on counts for nobody, so it ends")
        main = threading.main_thread().ident
        if main is not None and not self.ending:
            signal.pthread_kill(main, signal.SIGTERM)

    def write_record(self) -> None:
        """Fold the run's events, and write the record once all of them are in the store."""
        while not self.outbox.drained(1.0):
            pass  # the main thread's deadline ends this
        goes_on = self.attempt.requeue and self.tally.stopped  # as another attempt
        if not goes_on and self.fenced is None:
            self.stubbornly("the record", self.create_record)

    def create_record(self) -> None:
        """Write the record, if the run is still ours."""
        store = self.outbox.store()
        self.standing.take().check(store)
        past = history.read(store, self.attempt.run, own=(self.attempt.number, self.outbox.posted))
        counting = claims.counting(store, self.attempt.run)
        record = fold.fold(self.attempt.job, past.events, past.summaries, counting=counting)
        try:
            store.create(keys.record(self.attempt.run), json.dumps(record, indent=1).encode())
        except Exception as e:
            if type(e).__name__ != "ObjectExistsError":
                raise  # else an older record stays, of a run that had ended and went on; the events tell the rest

    def pending(self) -> list[str]:
        """Return what is not in the store yet, by name: for the case that time runs out."""
        held = [f"checkpoint {one.name}" for one in self.shipper.waiting]
        held += [f"checkpoint {name}" for name, _ in self.watch.finished(time.monotonic(), final=True)]
        return [*self.missing, *held, *(f"output {file.path}" for file in self.outputs.left)]
