"""A run on a box at this terminal: its output, what becomes of it, and letting go of it without harm."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from launcher.cli.settings import settings
from launcher.errors import LauncherError, StoreError, TargetError, UnreachableError

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.profiles import Profile
    from launcher.remote import Shell
    from launcher.store.objects import Store

LETS_GO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CANCELLED = 128 + signal.SIGTERM  # what a shell would say of a command that was told to stop
STDERR = 2


class LetGo(BaseException):
    """A person, or whoever ends their programs, wants this command to end; the run is none of its business."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def letting_go(*, for_good: bool = False) -> Iterator[None]:
    """Make the first SIGINT, SIGTERM or SIGHUP raise LetGo. Those that follow within the context do nothing worse; with
    `for_good` also none after it, for then this process only has to end."""
    gone: list[int] = []

    def take(number: int, frame: object) -> None:
        gone.append(number)
        if len(gone) == 1:
            raise LetGo(number)

    before = {number: signal.signal(number, take) for number in LETS_GO}
    try:
        yield
    finally:
        for number, handler in before.items():
            over = gone or signal.getsignal(number) == signal.SIG_IGN  # where one context lies in another
            signal.signal(number, signal.SIG_IGN if for_good and over else handler)


def attached(
    profile: Profile,
    run: str,
    opened: Store | None,
    *,
    shell: Shell | None = None,
    tools: str | None = None,
    fresh: bool = False,
    attempt: int = 1,
    as_json: bool = False,
) -> int:
    """Follow a run on a box to its end, and tell of it. Return the command's exit code; 128 + n after a signal n.

    Raises UnreachableError (75) where the way is lost for good: the run goes on without us. `fresh` says that the run
    was begun by this command; of what was printed, only this attempt's and later ones' is shown.
    """
    from launcher.ssh.following import follow

    screen = Screen(profile, as_json, fresh)
    try:
        with letting_go(for_good=True):
            state = follow(
                profile,
                run,
                tools=tools,
                opened=opened,
                attempt=attempt,
                output=screen.output,
                tell=screen.tell,
                note=screen.note,
                shell=shell,
            )
    except LetGo as e:
        let_go(profile, run, opened)
        return 128 + e.number
    except TargetError as e:
        raise lost(e, profile, run, opened) from e
    screen.end_line()
    return ended(state, profile, run, opened, as_json)


def let_go(profile: Profile, run: str, opened: Store | None) -> None:
    """Say that nothing happened to the run, and how to come back. Written at once: a terminal may be going away."""
    if settings().quiet:
        return
    store = how_to_find(profile, opened)
    text = f"{run} goes on on {profile.name}; `launcher attach {run}{store}` comes back"
    with contextlib.suppress(OSError):
        os.write(STDERR, f"\n{text}, `launcher cancel {run}{store}` ends it\n".encode())


def lost(error: TargetError, profile: Profile, run: str, opened: Store | None) -> LauncherError:
    """Say of a way that is lost that the run is not."""
    if not str(error).startswith(("there is no way to", "the way to", "nothing was heard")):
        return error
    back = f"launcher attach {run}{how_to_find(profile, opened)}"
    text = f"{error.problems[0].message}; what runs there goes on"
    return UnreachableError(text, hint=f"`{back}` comes back when {profile.name} answers")


def how_to_find(profile: Profile, opened: Store | None) -> str:
    """Return what a command has to say to find the run again."""
    from launcher.cli.execution import named_store

    return f" --on {profile.name}" if opened is None else named_store(opened)


def ended(state: State, profile: Profile, run: str, opened: Store | None, as_json: bool) -> int:
    """Tell how a run ended: by its record where there is a store, else by the box's own word. Return the exit code."""
    from launcher import records
    from launcher.cli.execution import named_store, report

    if opened is None:
        if not settings().quiet:
            click.echo(f"{run}: {phase(state)}", err=True)
        return code(state)
    try:
        record = records.load(opened, run)
    except LauncherError as e:
        why = f"{run} {phase(state)} on {profile.name}, and its record can't be read: {e}"
        raise StoreError(why, hint=f"`launcher pull {run}` brings the rest when the store is back") from e
    rest = f"{profile.name}: `launcher pull {run}{named_store(opened)}` brings what can come"
    report(record, rest, named_store(opened), as_json, resume=f"launcher resume {run}")
    return code(state)


def code(state: State) -> int:
    """Return the exit code that tells how a run ended: the command's own where it has one."""
    if state.code is not None:
        return state.code
    return CANCELLED if state.phase == "cancelled" else TargetError.exit_code


def phase(state: State) -> str:
    """Say how a run stands on a box."""
    why = f" ({state.why})" if state.why else ""
    if state.phase == "waiting":
        return f"waits for a GPU, {before(state.place)}{why}" if state.place is not None else f"waits{why}"
    if state.phase == "ended":
        return f"ended with code {state.code}{why}" if state.code is not None else f"ended{why}"
    if state.phase == "cancelled":
        return "cancelled"
    return f"{state.phase}{why}"


def before(place: int | None) -> str:
    return "first in the queue" if not place else f"{place} run{'s' * (place != 1)} before it"


class Screen:
    """Where a run's output and states go."""

    def __init__(self, profile: Profile, as_json: bool, fresh: bool) -> None:
        self.profile, self.as_json = profile, as_json
        self.said = "" if not fresh else "running"
        self.attempt: int | None = None
        self.amid = False  # whether the command's last line, where ours go, has no end yet

    def output(self, stream: int, data: bytes) -> None:
        """Pass the command's bytes on, each stream to its own; with --json stdout is the record alone."""
        out = sys.stdout if stream == 1 and not self.as_json else sys.stderr
        if out is None:  # closed by whoever began this
            return
        out.buffer.write(data)
        out.buffer.flush()
        self.amid = not data.endswith(b"\n") and (out is sys.stderr or out.isatty())

    def tell(self, state: State) -> None:
        """Say what a person would want to know: that it waits, that it is held, that another attempt has begun."""
        if state.phase in ("waiting", "held"):
            self.say(phase(state))
        elif state.attempt and self.attempt and state.attempt > self.attempt:
            self.say(f"attempt {state.attempt} begins{f': {state.why}' if state.why else ''}")
        self.attempt = state.attempt or self.attempt

    def say(self, text: str) -> None:
        if text != self.said and not settings().quiet:
            self.said = text
            self.line(f"{self.profile.name}: {text}")

    def note(self, text: str) -> None:
        if not settings().quiet:
            self.line(f"note: {text}")

    def line(self, text: str) -> None:
        self.end_line()
        click.echo(text, err=True)

    def end_line(self) -> None:
        """End a line of the command's that has no end, so that ours begins at its own."""
        if self.amid and not settings().quiet:
            click.echo(err=True)
        self.amid = False
