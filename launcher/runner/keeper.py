"""The slow work beside the command: host facts, checkpoints while it runs, and everything that is left at the end."""

from __future__ import annotations

import json
import time

from launcher.runner import checkpoints, fold, history, host, outputs
from launcher.runner.blobs import ChangedError
from launcher.runner.clock import say
from launcher.runner.standing import Standing
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.blobs import Found
    from launcher.runner.outbox import Outbox
    from launcher.runner.renames import Renames
    from launcher.runner.tally import Tally

TRIES = 5
FRAMEWORKS_BYTES = 1 << 16


class Keeper:
    """Runs in its own thread, so that a checkpoint of many gigabytes never holds back logs and heartbeats."""

    def __init__(
        self,
        attempt: Attempt,
        outbox: Outbox,
        tally: Tally,
        standing: Standing | None,
        renames: Renames | None,
    ) -> None:
        self.attempt, self.outbox, self.tally = attempt, outbox, tally
        self.standing = standing or Standing(attempt, outbox)
        quiet = attempt.times["quiet_s"], attempt.times["quiet_folder_s"]
        self.watch = checkpoints.Watch(attempt.path("checkpoints"), *quiet, self.standing.signatures, renames)
        self.seq = 0
        self.after_failure = 0.0  # look again not before, in monotonic seconds
        self.missing: list[str] = []  # what did not get into the store, and why
        self.ending = False
        self.told: set[str] = set()

    def work(self, ending: threading.Event) -> None:
        """Keep until the command has ended, then finish."""
        try:
            self.guarded("host facts", self.tell_host)
            while not ending.wait(self.attempt.times["look_s"]):
                self.guarded("checkpoints", lambda: self.keep_checkpoints(final=False))
            self.ending = True
            self.finish()
        except Exception as e:  # a bug here must not change how the run ends, and must not be silent
            say(f"what remained could not be stored: {type(e).__name__}: {e}")
            self.missing.append(f"{type(e).__name__}: {e}")
            self.close()

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
        self.outbox.event("host", facts={**host.facts(), **self.attempt.host})

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

    def finish(self) -> None:
        """Store what remains: checkpoints, outputs, the last events, and the record as the last of all."""
        if self.tally.cut_off_at is not None:
            self.leave_doubtful(self.tally.cut_off_at)
        for attempt_left in reversed(range(TRIES)):
            if self.keep_checkpoints(final=True, last=attempt_left == 0):
                break
            time.sleep(self.attempt.times["retry_s"])
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

    def close(self) -> None:
        self.outbox.event("closed", missing=[*self.missing, *self.outbox.lost], **self.tally.as_json())

    def keep_checkpoints(self, final: bool, last: bool = False) -> bool:
        """Store the checkpoints that are finished. Return whether none was refused."""
        now = time.monotonic()
        if not final and now < self.after_failure:
            return False
        good = True
        for name, sign in self.watch.finished(now, final):
            try:
                self.keep_checkpoint(name, sign)
            except Exception as e:  # retried: changed meanwhile, or the store refused
                good = False
                if not isinstance(e, ChangedError):  # the next look will find it quiet, or renamed
                    self.after_failure = time.monotonic() + 5
                self.not_kept(f"checkpoint {name}", e, last)
        return good

    def keep_checkpoint(self, name: str, sign: checkpoints.Signature) -> None:
        store = self.outbox.store()
        claim = self.standing.take()
        claim.check(store)
        manifest = checkpoints.commit(store, self.attempt, name, self.seq, sign, self.outbox.moved)
        claim.check(store)
        self.watch.taken[name] = sign
        key = keys.checkpoint(self.attempt.run, self.attempt.number, self.seq)
        self.seq += 1
        files = len(manifest["files"])
        self.outbox.event(
            "checkpoint", name=name, number=manifest["seq"], key=key, bytes=manifest["bytes"], files=files
        )
        self.standing.retention.apply(store, key, manifest)

    def keep_outputs(self) -> None:
        folder = self.attempt.path("outputs")
        found = outputs.kept(folder, self.attempt.job.get("outputs", ["**"]))
        lines, before = [], len(self.missing)
        for file in found:
            line = self.keep_output(file)
            if line is not None:
                lines.append(line)
        told = outputs.manifest(self.attempt, lines, self.missing[before:])
        if lines or told["missing"]:
            key = keys.output_manifest(self.attempt.run, self.attempt.number)
            self.stubbornly("the outputs' manifest", lambda: outputs.commit(self.outbox.store(), self.attempt, told))
            facts = {name: told[name] for name in ("digest", "bytes", "missing")}
            self.outbox.event("outputs", key=key, files=len(lines), **facts)

    def keep_output(self, file: Found) -> dict[str, Any] | None:
        if file.kind == "other":
            self.missing.append(f"output {file.path}: is no file, folder or link")
            return None
        found: list[dict[str, Any]] = []
        ship = lambda: found.append(outputs.ship(self.outbox.store(), self.attempt, file, self.outbox.moved))  # noqa: E731
        self.stubbornly(f"output {file.path}", ship)
        return found[0] if found else None

    def stubbornly(self, what: str, action: Any) -> None:
        """Do something a few times until it works; note it as missing if it never does."""
        for left in reversed(range(TRIES)):
            try:
                action()
                return
            except Exception as e:
                self.not_kept(what, e, last=left == 0)
            if left:
                time.sleep(self.attempt.times["retry_s"] * 2.0 ** (TRIES - 1 - left))

    def not_kept(self, what: str, error: Exception, last: bool) -> None:
        why = f"{what}: {str(error).partition(chr(10))[0]}"
        if last:
            self.missing.append(why)
            say(f"not in the store: {why}")
        elif not self.ending:
            self.outbox.event("problem", text=f"{why}; it is tried again")

    def write_record(self) -> None:
        """Fold the run's events, and write the record once all of them are in the store."""
        while not self.outbox.drained(1.0):
            pass  # the main thread's deadline ends this
        if self.attempt.requeue and self.tally.stopped:
            return  # the run goes on as another attempt
        store = self.outbox.store()
        past = history.read(store, self.attempt.run, own=(self.attempt.number, self.outbox.posted))
        record = fold.fold(self.attempt.job, past.events, past.summaries)
        self.stubbornly("the record", lambda: self.create_record(json.dumps(record, indent=1).encode()))

    def create_record(self, data: bytes) -> None:
        try:
            self.outbox.store().create(keys.record(self.attempt.run), data)
        except Exception as e:
            if type(e).__name__ != "ObjectExistsError":
                raise  # else an older record stays, of a run that had ended and went on; the events tell the rest

    def pending(self) -> list[str]:
        """Return what is not in the store yet, by name: for the case that time runs out."""
        left = [f"checkpoint {name}" for name, _ in self.watch.finished(time.monotonic(), final=True)]
        return [*self.missing, *left]
