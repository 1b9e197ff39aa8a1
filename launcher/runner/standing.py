"""Where an attempt stands in its run: its claim, what it brought back, what it may rely on and what it may forget."""

from __future__ import annotations

import contextlib
import threading
import time

from launcher.runner import claims
from launcher.runner.attempt import AttemptError
from launcher.runner.clock import say
from launcher.runner.contents import Contents
from launcher.runner.leases import Turn, renew
from launcher.runner.retention import Retention

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from launcher.runner.attempt import Attempt
    from launcher.runner.outbox import Outbox
    from launcher.runner.restore import Restored

    T = TypeVar("T")

PAUSE_S = 1.0


class Standing:
    """Of one attempt. A first attempt claims its run when it has something to write; a later one before it begins."""

    def __init__(self, attempt: Attempt, outbox: Outbox) -> None:
        self.attempt, self.outbox = attempt, outbox
        self.restored: Restored | None = None
        self.signatures: dict[str, Any] = {}  # of what was restored, and lies in the store as it is
        self.held: tuple[claims.Claim, Contents, Retention] | None = None

    def take(self, stopped: Callable[[], bool] = lambda: False, turn: Turn | None = None) -> claims.Claim:
        """Return the attempt's claim, taken at the first call. It may be called again after an error.

        Raises Superseded and AttemptError as `claims.take` does, and a LauncherError of the store.
        """
        if self.held is None:
            now = self.attempt.claims_now or self.attempt.number == 1
            claim = claims.take(self.outbox.store(), self.attempt, now, turn=turn or Turn(self.attempt, stopped, say))
            self.outbox.event("claimed", **claim.facts())
            self.rely(claim)
        assert self.held is not None
        return self.held[0]

    def rely(self, claim: claims.Claim) -> None:
        """Work out what follows from the claim, and from what was restored."""
        relied = self.restored.relied if self.restored else ()
        damaged = self.restored.passed if self.restored else ()
        contents = Contents(claim.run, claim.epoch, relied)
        self.held = claim, contents, Retention(self.attempt, claim, contents, self.outbox.event, damaged)

    @property
    def held_at(self) -> str:
        """Where on this node lies what was restored from there and isn't in the store yet; "" when nothing does."""
        return self.restored.held if self.restored else ""

    def stored(self) -> None:
        """Hear that a checkpoint is in the store: what was restored from this node's disk has had its day."""
        if self.restored and self.restored.held:
            from launcher.runner.holding import let_go

            let_go(self.restored.held)
            self.restored.held = ""

    @property
    def contents(self) -> Contents:
        """What is stored already. Only after `take`."""
        assert self.held is not None
        return self.held[1]

    @property
    def retention(self) -> Retention:
        """What forgets. Only after `take`."""
        assert self.held is not None
        return self.held[2]


def resume(attempt: Attempt, outbox: Outbox, stopped: Callable[[], bool]) -> Standing:
    """Claim the run for a later attempt, and bring back the newest whole checkpoint.

    Raises AttemptError when the store can't be asked: to begin again from nothing would lose what was computed.
    """
    from launcher.runner import restore

    standing, turn = Standing(attempt, outbox), Turn(attempt, stopped, say)
    claim = patiently(attempt, turn, lambda: standing.take(turn=turn))
    with renewed(attempt, outbox):
        found = patiently(attempt, turn, lambda: restore.restore(outbox.store(), attempt, claim))
    standing.restored = found
    standing.rely(claim)
    tell(standing, found)
    return standing


def tell(standing: Standing, found: Restored) -> None:
    """Say what was brought back, and what was passed over. What came from this node's disk is still to be stored."""
    from launcher.runner.checkpoints import signature

    attempt, event = standing.attempt, standing.outbox.event
    for key, why in found.passed.items():
        say(f"a checkpoint is damaged, the one before is taken: {key}: {why}")
        event("problem", text=f"damaged checkpoint passed over: {key}: {why}")
    if found.manifest is not None:
        name, seq, of_attempt = (found.manifest[fact] for fact in ("name", "seq", "attempt"))
        event("restored", name=name, number=seq, of_attempt=of_attempt, **({"held": True} if found.held else {}))
        if not found.held:
            standing.signatures[name] = signature(attempt.path("checkpoints"), name)


def patiently(attempt: Attempt, turn: Turn, action: Callable[[], T]) -> T:
    """Do something until the store lets us, for `restore_s` besides the time that others were waited for."""
    began = time.monotonic()
    while True:
        try:
            return action()
        except AttemptError:
            raise
        except Exception as e:
            if time.monotonic() > began + attempt.times["restore_s"] + turn.paused_s:
                raise AttemptError(f"the run's checkpoints can't be read: {e}") from e
        turn.refuse_stop("the store")
        time.sleep(PAUSE_S)


@contextlib.contextmanager
def renewed(attempt: Attempt, outbox: Outbox) -> Iterator[None]:
    """Renew the lease meanwhile: bringing back may take longer than it runs, and the heart doesn't beat yet."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(attempt.times["heartbeat_s"]):
            with contextlib.suppress(Exception):  # the next one comes soon
                renew(outbox.store(), attempt)

    threading.Thread(target=work, daemon=True).start()
    try:
        yield
    finally:
        over.set()
