"""Following a run on a box: its output and states to its end, over as many connections as that takes.

What the box's own store has new is relayed meanwhile (launcher.ssh.relaying), where the box doesn't reach the store.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from launcher.box.frames import Told
from launcher.box.model import State
from launcher.errors import LauncherError, TargetError
from launcher.progress import SILENT, Progress
from launcher.remote.host import LostWayError
from launcher.ssh import door as doors
from launcher.ssh.courier import Courier
from launcher.ssh.credentials import renew
from launcher.ssh.listening import listen, mends

if TYPE_CHECKING:
    from launcher.profiles.model import Profile
    from launcher.remote.model import Shell
    from launcher.ssh.door import Door
    from launcher.store.objects import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
BRING_S = 20.0  # between two tries to bring credentials
WAKE_S = 10.0  # a run whose host side is gone is waken by the agent; so long it may be starting again by itself

Output = Callable[[int, bytes], None]
Tell = Callable[[State], None]
Note = Callable[[str], None]


def silent(_: str) -> None:
    return


def follow(
    profile: Profile,
    run: str,
    *,
    tools: str | None = None,
    opened: Store | None,
    output: Output,
    tell: Tell,
    since: int = 0,
    attempt: int = 1,
    note: Note = silent,
    shell: Shell | None = None,
    progress: Progress = SILENT,
) -> State:
    """Pass on what a run prints (1 stdout, 2 stderr, 0 launcher's own) and how it stands, until it is over.

    A connection that is lost is made again for as long as the person waits; the output goes on at the right byte.
    What the box keeps for the store is brought there, all of it before this returns. Without a store nothing is.
    What attempts before `attempt` printed is not passed on.

    Raises TargetError when there is no way there at all at the beginning, or no such run; when the box shows another
    key; and StoreError when the run is over and the store doesn't take what is left: `launcher pull` brings it.
    """
    with doors.opened(profile, shell=shell, tools=tools, progress=progress) as door:
        courier = Courier(door, run, opened, note) if opened is not None else None
        following = Following(door, run, since, courier, output, tell, note)
        following.opened, following.attempt = opened, attempt
        try:
            state = following.work()
            if courier:
                courier.finish()
            return state
        finally:
            if courier:
                courier.stop()


class Following:
    """One run that is followed."""

    def __init__(
        self, door: Door, run: str, since: int, courier: Courier | None, output: Output, tell: Tell, note: Note
    ) -> None:
        self.door, self.run, self.since, self.courier = door, run, since, courier
        self.output, self.tell, self.note = output, tell, note
        self.state: State | None = None
        self.heard = False  # anything, ever
        self.fresh = False  # anything over this connection
        self.alone_since: float | None = None  # when its host side was first seen gone
        self.attempt = 1  # what those before it printed is not passed on
        self.opened: Store | None = None  # the run's store: for which it may want credentials
        self.brought = -BRING_S

    def work(self) -> State:
        for _ in pauses(self.progressed):
            try:
                return self.listen()
            except TargetError as e:
                if not self.heard or not mends(e):
                    raise
                if isinstance(e, LostWayError):
                    self.note(f"the connection to {self.door.shell.where} is lost, and is made again: {first_line(e)}")
        raise AssertionError("pauses don't end")

    def progressed(self) -> bool:
        """Return whether anything was heard since this was asked last."""
        fresh, self.fresh = self.fresh, False
        return fresh

    def listen(self) -> State:
        """Hear one stream out. Raises LostWayError when it is cut."""
        request = {"call": "follow", "run": self.run, "since": self.since}
        with listen(self.door, request) as frames:
            for told, payload in frames:
                if self.fresh_again():
                    self.note(f"connected to {self.door.shell.where} again")
                if self.take(told, payload):
                    break
                self.wake()
                self.bring()
        if self.state is None:
            raise TargetError(f"{self.door.shell.where} told nothing of {self.run}")
        return self.state

    def fresh_again(self) -> bool:
        """Note that something was heard; return whether that is the first of a connection that was made again."""
        again = self.heard and not self.fresh
        self.heard = self.fresh = True
        return again

    def take(self, told: Told, payload: bytes) -> bool:
        """Take a frame; return whether it was the last one."""
        kind = told["kind"]
        if kind == "out":
            if told["a"] >= self.attempt:
                self.output(told["s"], payload)
            self.since = told.get("at", self.since)
        elif kind == "state":
            self.state = doors.heard(told.get("state"), self.door.shell.where)
            self.alone_since = None if self.state.alive or self.state.over else self.alone_since or time.monotonic()
            self.tell(self.state)
        elif kind == "store" and self.courier:
            self.courier.call()
        return bool(kind == "end")

    def wake(self) -> None:
        """Have the agent look after a run whose host side is gone."""
        if self.alone_since is not None and time.monotonic() - self.alone_since > WAKE_S:
            self.alone_since = time.monotonic()
            with contextlib.suppress(LauncherError):
                self.door.ask("states", {"runs": [self.run]})

    def bring(self) -> None:
        """Bring credentials to a run that wants some; what fails is tried again after a while."""
        wanted = self.state is not None and self.state.credentials and self.opened is not None
        if wanted and time.monotonic() - self.brought > BRING_S:
            self.brought = time.monotonic()
            assert self.state is not None and self.opened is not None
            renew(self.door, [self.state], self.opened, self.note)


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def pauses(progressed: Callable[[], bool]) -> Iterator[None]:
    """Yield for each try, with longer and longer pauses between; short ones again after one that got somewhere."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield
        if progressed():
            pause_s = FIRST_PAUSE_S
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
