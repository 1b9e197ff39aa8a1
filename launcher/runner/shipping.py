"""Held checkpoints on their way into the store: the newest first, each whole, its manifest last.

One thread ships. It hashes what is held, so that it is known to be whole also while the store does not answer, and
tries again for as long as the run lives. Before and after each manifest it asks whether the run is still its own.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext

from launcher.runner import backlog, pool, priority
from launcher.runner.attempt import AttemptError
from launcher.runner.backoff import Backoff
from launcher.runner.blobs import ChangedError, Found, create, line_of, walk
from launcher.runner.clock import say, stamp
from launcher.runner.freight import amount
from launcher.runner.holding import limit_of
from launcher.runner.outbox import reason
from launcher.runner.scores import Scores
from launcher.runner.sealed import sealed
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.blobs import Sender
    from launcher.runner.holding import Held
    from launcher.runner.outbox import Outbox
    from launcher.runner.standing import Standing
    from launcher.store.objects import Store

HASHES_AT_ONCE = 2
FILES_AT_ONCE = 8
TRIES = 5  # at the end, for what waiting does not heal


class Shipper:
    """Knows which checkpoints wait. One thread may `add`; another runs `work`."""

    def __init__(
        self,
        attempt: Attempt,
        outbox: Outbox,
        standing: Standing,
        sender: Sender,
        lose: Callable[[str], None],
        fence: Callable[[AttemptError], None],
    ) -> None:
        self.attempt, self.outbox, self.standing, self.sender = attempt, outbox, standing, sender
        self.lose, self.fence = lose, fence
        self.most_bytes = limit_of(attempt)
        self.keep: dict[str, Any] = attempt.job.get("keep") or {}
        self.scores = Scores(attempt, self.keep.get("best") or "")  # of the thread that adds
        self.waiting: list[Held] = []
        self.busy: Held | None = None
        self.changed_ones: list[str] = []  # names that turned out to be written to: to be looked at again
        self.news = threading.Condition()
        self.closing = self.fenced = False
        self.sparing = True  # the command runs
        self.backoff = Backoff(attempt.times["retry_s"])
        self.told: set[str] = set()
        self.ask_at = 0.0  # when to ask next whether the run is still ours, in monotonic seconds

    def add(self, held: Held) -> None:
        """Take over one that is held, and give up others where too much waits."""
        self.outbox.freight.expect(len(held.sign), held.bytes)
        with self.news:
            self.waiting.append(held)
            self.news.notify_all()
            idle = [one for one in self.waiting if one is not self.busy]
            room = self.most_bytes - (self.busy.bytes if self.busy else 0)
            self.scores.look()
            unwanted, surplus = backlog.superfluous(idle, self.keep, room, self.scores)
            for one in (*unwanted, *surplus):  # at once: the other thread must not begin with one of them
                self.forget(one)
        for one in unwanted:
            self.outbox.event("skipped", name=one.name, number=one.seq, bytes=one.bytes)
        for one in surplus:
            limit = amount(self.most_bytes)
            self.lose(f"checkpoint {one.name}: over {limit} of newer ones wait for the store (hold_bytes)")

    def spare_nobody(self) -> None:
        """The command is gone: what is under way need not give way any more, nor what comes."""
        self.sparing = False
        if self.busy is not None:
            priority.weigh_session(self.attempt.own_session, 0)

    def close(self) -> None:
        """Let `work` end when nothing waits any more."""
        with self.news:
            self.closing = True
            self.news.notify_all()

    def work(self) -> None:
        """Ship until closed and empty, or until another attempt has the run."""
        while not self.fenced:
            held = self.next()
            if held is None and self.closing:
                return
            try:
                if held is None:
                    self.look_after()
                else:
                    with priority.session_gives_way(self.attempt.own_session) if self.sparing else nullcontext():
                        self.ship(held)
                    self.told.clear()
                self.backoff.worked()
            except AttemptError as e:
                self.fenced = True
                self.fence(e)
            except Exception as e:
                self.failed(held, e)

    def next(self) -> Held | None:
        """Wait for the newest that waits; None when there is nothing to do but to look after the claim."""
        with self.news:
            self.news.wait_for(lambda: self.waiting or self.closing, max(0.0, self.ask_at - time.monotonic()))
            self.busy = max(self.waiting, key=lambda held: held.seq, default=None)
            return self.busy

    def look_after(self) -> None:
        """Take the claim, or ask whether it is still ours: a run that was frozen or cut off learns it here."""
        self.ask_at = time.monotonic() + self.attempt.lease_s
        store = self.outbox.store()
        self.standing.take().check(store)

    def ship(self, held: Held) -> None:
        """Put a checkpoint into the store, its manifest last. Raises whatever keeps it from getting there."""
        try:
            self.seal(held)
            store = self.outbox.store()
            self.standing.take().check(store)
            began = time.monotonic()
            manifest = self.send(store, held)
            held.send_s += time.monotonic() - began
            self.commit(store, held, manifest)
        except ChangedError:
            with self.news:
                self.changed_ones.append(held.name)
            self.forget(held)

    def seal(self, held: Held) -> None:
        """Hash what is held. From then on it can be told whether it is whole, by anybody."""
        if held.manifest is not None:
            return
        began = time.monotonic()
        found = [file for file in files_of(held) if file.kind != "other"]
        lines = pool.every(lambda file: line_of(file, self.outbox.freight.moved), found, HASHES_AT_ONCE)
        held.seal(
            {
                "version": 1,
                "name": held.name,
                "kind": held.kind,
                "attempt": self.attempt.number,
                "seq": held.seq,
                "time": stamp(),
                "rows": held.rows,
                "bytes": sum(line.get("size", 0) for line in lines),
                "files": lines,
            }
        )
        held.hash_s = time.monotonic() - began

    def send(self, store: Store, held: Held) -> dict[str, Any]:
        """Send the contents that the store has not; return the manifest. Raises ChangedError and LauncherErrors."""
        assert held.manifest is not None
        priority.library_gives_way(but={threading.main_thread().native_id or 0, self.outbox.thread})
        contents, lines = self.standing.contents, [dict(line) for line in held.manifest["files"]]
        found = {file.path: file for file in files_of(held)}
        new = {line["sha256"]: line for line in lines if "sha256" in line and contents.find(line["sha256"]) is None}

        def one(line: dict[str, Any]) -> None:
            mark = contents.mark(line["sha256"])
            key = keys.blob(self.attempt.run, line["sha256"], mark)
            try:
                self.sender.send(store, key, found[line["path"]], line, held.linked)
            except ChangedError:
                contents.retire(line["sha256"])  # it was deleted, and the deletion may arrive late
                raise
            contents.stored(line["sha256"], mark)
            held.sent.append(line["size"])

        pool.every(one, list(new.values()), FILES_AT_ONCE)
        for line in lines:
            if mark := contents.find(line["sha256"]) if "sha256" in line else None:
                line["mark"] = mark
        return {**held.manifest, "files": lines}

    def commit(self, store: Store, held: Held, manifest: dict[str, Any]) -> None:
        """Write the manifest, if the run is still ours; then what it makes superfluous may go."""
        claim = self.standing.take()
        files_of(held)  # refuses one that was written to since
        claim.check(store)
        key = keys.checkpoint(self.attempt.run, self.attempt.number, held.seq)
        create(store, key, sealed({**manifest, "epoch": claim.epoch}))
        claim.check(store)
        self.ask_at = time.monotonic() + self.attempt.lease_s
        facts = {"bytes": manifest["bytes"], "files": len(manifest["files"]), "sent_bytes": sum(held.sent)}
        facts.update(hash_s=round(held.hash_s, 3), send_s=round(held.send_s, 3))
        self.outbox.event("checkpoint", name=held.name, number=held.seq, key=key, **facts)
        self.forget(held, stored=True)
        self.standing.stored()
        try:
            self.standing.retention.apply(store, key, manifest)
        except AttemptError:
            raise
        except Exception as e:  # what could not be forgotten costs money, and is tried again at the next one
            self.tell(f"keep: {reason(e)}")

    def forget(self, held: Held, stored: bool = False) -> None:
        """Let go of one that is in the store, or is not to get there."""
        with self.news:
            self.waiting.remove(held)
            self.busy = None if self.busy is held else self.busy
        files, sent = len(held.sign), sum(held.sent)
        if stored:  # what the store had already counts as sent
            self.outbox.freight.moved(held.bytes - sent, files - len(held.sent))
        else:
            self.outbox.freight.expect(-files, -held.bytes)
            self.outbox.freight.moved(-sent, -len(held.sent))
        held.release()

    def failed(self, held: Held | None, error: Exception) -> None:
        """Tell what is wrong, once, and wait before the next try; at the end give up what waiting does not heal."""
        why = reason(error)
        what = f"checkpoint {held.name}" if held else "the run's claim"
        self.tell(f"{what}: {why}; it is tried again", why)
        if held is not None and self.closing and not heals(error) and self.outbox.failing is None:
            held.tries += 1
            if held.tries >= TRIES:
                self.lose(f"{what}: {why}")
                self.forget(held)
                return
        with self.news:
            closing = self.closing
            self.news.wait_for(lambda: self.closing != closing, self.backoff.pause_s())

    def tell(self, text: str, reason: str = "") -> None:
        """Tell of a problem, but not of the same one again and again."""
        if (reason or text) not in self.told:
            self.told.add(reason or text)
            say(text)
            self.outbox.event("problem", text=text)

    def written_to(self) -> list[str]:
        """Return the names that were written to while they were held, once."""
        with self.news:
            found, self.changed_ones = self.changed_ones, []
            return found


def files_of(held: Held) -> list[Found]:
    """Return the files and links of what is held. Raises ChangedError when they aren't any more what was taken."""
    try:
        found = walk(held.path, "" if held.kind == "tree" else held.name)
    except OSError as e:
        raise ChangedError(f"the checkpoint {held.name} is gone") from e
    if tuple(file.signature for file in found) != held.sign:
        raise ChangedError(f"the checkpoint {held.name} was written to since it was taken")
    return found


def heals(error: Exception) -> bool:
    """Return whether waiting may help: the store does not answer, or somebody has to renew what it asks for."""
    from launcher.errors import AccessError, UnreachableError

    return isinstance(error, (AccessError, UnreachableError))
