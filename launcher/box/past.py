"""What the store knows of a box's run, and what the host side writes there: attempts begun, ended, parted from."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from launcher import records
from launcher.box import credentials, deciding
from launcher.box.asked import Asked
from launcher.box.deciding import Verdict
from launcher.box.model import Order
from launcher.box.telling import Teller
from launcher.errors import AccessError, LauncherError, StoreError, UsageError
from launcher.node.patience import PATIENCE_S, Patience
from launcher.node.reach import open_store

if TYPE_CHECKING:
    from launcher.records import Attempt, Record
    from launcher.store.objects import Store

CANCEL_S = 60.0  # how long a store is waited for when nobody wants the run any more
LOOK_S = 2.0  # between two looks for credentials
log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Past:
    """The run as its store has it."""

    def __init__(self, order: Order, asked: Asked, tell: Teller) -> None:
        self.order, self.asked, self.tell, self.run = order, asked, tell, order.run
        self.token = f"{order.profile.name}.{order.attempt}"

    @cached_property
    def store(self) -> Store:
        return open_store(self.order)

    def until(self, action: Callable[[], Answer]) -> Answer:
        """Do something with the store, as long as it takes before the command; credentials that are missing come by
        the next contact. Raises Stopped, StoreError."""
        while True:
            self.wait_for_credentials()
            try:
                return Patience(self.asked, float("inf")).until(action)
            except AccessError:
                self.asked.check()
                if not credentials.need(self.order):
                    raise
                self.__dict__.pop("store", None)
                self.asked.sleep(LOOK_S)

    def after(self, action: Callable[[], Answer]) -> Answer:
        """Do something with the store when an attempt is over: nobody's wish to stop cuts it short, but the wish to
        cancel makes the patience smaller. Raises StoreError."""
        while True:
            try:
                return Patience(None, CANCEL_S if self.asked.why == "cancelled" else PATIENCE_S).until(action)
            except AccessError:
                if self.asked.why == "cancelled" or credentials.need(self.order) != "missing":
                    raise
                self.__dict__.pop("store", None)
                self.tell(self.tell.state.phase, why=credentials.WAITS)
                time.sleep(LOOK_S)

    def wait_for_credentials(self) -> None:
        """Wait until there are some. Raises Stopped."""
        while credentials.need(self.order) == "missing":
            self.tell("waiting", why=credentials.WAITS)
            self.asked.sleep(LOOK_S)

    def record(self) -> Record | None:
        try:
            return records.load(self.store, self.run)
        except UsageError:
            return None

    def is_mine(self, one: Attempt) -> bool:
        """Tell whether an attempt began by this order."""
        return one.attempt == self.order.attempt or (one.scheduler or {}).get("token") == self.token

    def queue(self) -> int | None:
        """Return the number of the attempt that begins now, queued in the store; None when others have the run."""
        record = self.record()
        last = record.attempts[-1] if record and record.attempts else None
        if last is None or last.attempt < self.order.attempt:
            number = self.order.attempt
        elif not self.is_mine(last):
            return None
        elif last.ended is None and not deciding.has_begun(last):
            return last.attempt
        else:
            number = last.attempt + 1
        facts = {"kind": "ssh", "target": self.order.profile.name, "node": os.uname().nodename, "token": self.token}
        told: dict[str, Any] = {"code": self.order.code_facts, "attempt": number, "who": self.order.who}
        return number if records.submit(self.store, self.order.job, **told, scheduler=facts) else None

    def ended(self, number: int, ending: str) -> Record | None:
        """Return the record after an attempt, with its end in it: said by us where its runner could not.

        None for one that never began, as the one before goes on elsewhere: nothing is left of it then.
        """
        if number > 1 and records.never_began(self.store, self.run, number):
            records.withdraw(self.store, self.run, number)
            return None
        found = records.load(self.store, self.run)
        mine = next((one for one in found.attempts if one.attempt == number), None)
        if mine is not None and mine.ended is None and not mine.superseded:
            records.end_for_dead(self.store, self.run, number, ending)
            found = records.load(self.store, self.run)
        return found

    def part(self, number: int, found: Verdict) -> None:
        """Write what we decided beside the run's own events."""
        facts = {"decision": found.decision, "cause": found.cause, "why": found.why}
        with contextlib.suppress(LauncherError):  # the state says it too
            self.after(lambda: records.parted(self.store, self.run, number, facts))

    def close(self, found: Verdict) -> Verdict:
        """Write what came of the run where nothing of it runs any more, and nobody has written that; return it.

        A store that can't be told changes nothing: the state on the box says it too.
        """
        try:
            record = self.after(self.record)
            last = record.attempts[-1] if record and record.attempts else None
            if record is not None and record.state == "succeeded":
                return Verdict(decision="done", why="it had succeeded before")
            if last is not None and self.is_mine(last):
                self.after(lambda: self.ended(last.attempt, found.why))
                self.part(last.attempt, found)
        except StoreError as e:
            log.warning("the store was not told: %s", e.problems[0].message)
        return found

    def cancel(self) -> Verdict:
        """Write that the run was cancelled, where nothing of it runs any more; return that."""
        why = "it was cancelled"
        return self.close(Verdict(decision="cancelled", cause="cancelled", why=why, code=deciding.STOPPED))
