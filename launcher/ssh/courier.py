"""Relays in the background while a run is followed, and brings all that is left at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.errors import LauncherError, StoreError, TargetError
from launcher.ssh.listening import mends
from launcher.ssh.relaying import Relay
from launcher.ssh.taking import Outcome

if TYPE_CHECKING:
    from launcher.ssh.door import Door
    from launcher.store.objects import Store

APART_S = 1.0  # between the begins of two rounds
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
LAST_TRIES = 6  # of what is left when the run is over


class Courier(threading.Thread):
    """Makes a round whenever it is called, never two at once."""

    def __init__(self, door: Door, run: str, opened: Store, note: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.door, self.run_id, self.note = door, run, note
        self.relay = Relay(opened, run, Cache())
        self.called, self.over = threading.Event(), threading.Event()
        self.told: set[str] = set()
        self.away = ""  # what was said of a way that is lost

    def call(self) -> None:
        """Say that the box's store has something new."""
        self.called.set()
        if not self.is_alive() and not self.over.is_set():
            self.start()

    def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while self.wait():
            began = time.monotonic()
            try:
                self.tell(self.relay.round(self.door))
                pause_s = FIRST_PAUSE_S
                self.over.wait(max(0.0, began + APART_S - time.monotonic()))
            except LauncherError as e:
                if not isinstance(e, TargetError):  # of the way tells who follows
                    self.once(f"the store does not take what the box has, and is tried again: {e.problems[0].message}")
                self.called.set()
                self.over.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def wait(self) -> bool:
        """Wait for a call; return False when it is over."""
        self.called.wait()
        self.called.clear()
        return not self.over.is_set()

    def tell(self, outcome: Outcome) -> None:
        if outcome.busy:
            self.once("another machine relays this run at the moment")
            self.called.set()
        if outcome.foreign is not None:
            self.once(
                f"attempt {outcome.foreign} of {self.run_id} on {self.door.profile.name} is not the one that the store "
                "knows: the run went on elsewhere, and what this box made since stays there"
            )

    def once(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.note(text)

    def stop(self) -> None:
        self.over.set()
        self.called.set()

    def finish(self) -> None:
        """Bring what is left of a run that is over. A way that is lost is tried for as long as the person waits.

        Raises StoreError when the store doesn't take it, or another machine goes on relaying.
        """
        if self.ident is None:  # nothing was ever relayed
            return
        self.stop()
        self.join()
        pause_s, tries = FIRST_PAUSE_S, 0
        while why := self.left():
            tries += why != self.away
            if tries == LAST_TRIES:
                hint = f"`launcher pull {self.run_id}` brings the rest; the box keeps it until then"
                raise StoreError(f"{self.run_id} is over, and not all of it is in the store yet: {why}", hint=hint)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def left(self) -> str:
        """Make rounds until nothing is new; return why something is left, "" where nothing is. Raises TargetError."""
        try:
            outcome = self.until_nothing_is_new()
        except TargetError as e:
            if not mends(e):
                raise
            self.away = f"the connection is lost, and is made again: {e.problems[0].message}"
            self.once(self.away)
            return self.away
        except StoreError as e:
            return e.problems[0].message
        self.tell(outcome)
        if outcome.complete or outcome.foreign is not None:
            return ""
        return outcome.trouble or ("another machine relays it" if outcome.busy else "the box goes on writing")

    def until_nothing_is_new(self) -> Outcome:
        while True:
            outcome = self.relay.round(self.door, whole=True)
            if outcome.complete or not outcome.objects:
                return outcome
