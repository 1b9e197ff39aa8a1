"""Waiting for a run on a box, and bringing along what the box keeps for the store meanwhile."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from launcher.cli.output import print_json
from launcher.cli.settings import settings
from launcher.errors import LauncherError, TargetError

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.cli.boxes import Found
    from launcher.store.objects import Store

AGAIN_S = 10.0  # between two tries to reach a box
ALL_WELL, BADLY, NOT_OVER = 0, 1, 3


class TimeUp(BaseException):
    """The person waits no longer."""


def is_on_box(opened: Store, run: str) -> bool:
    """Tell whether a run was sent to a box."""
    from launcher.ssh.door import last_sent

    told = last_sent(opened, run)
    return told is not None and told.kind == "ssh"


def wait_on_box(place: str | None, run: str, until: float, as_json: bool) -> int:
    """Wait until a run on a box is over; 0 when it succeeded, 1 when not, 3 when the time is up first.

    A box that doesn't answer is waited for, unless the store tells that the run is over.
    """
    from launcher.cli.boxes import find

    found, code = find(place, run), NOT_OVER
    with contextlib.suppress(TimeUp), alarm(until):
        code = told_by(heard_out(found), found)
    if as_json:
        from launcher.cli.ls import shown
        from launcher.cli.runs import listed

        with listed(place, about=[run]) as runs:
            print_json(next(shown(told) for told in runs.get([run])))
    return code


@contextlib.contextmanager
def alarm(until: float) -> Iterator[None]:
    """Raise TimeUp at a moment of the monotonic clock."""

    def ring(number: int, frame: object) -> None:
        raise TimeUp

    if until == float("inf"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, until - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def heard_out(found: Found) -> State | None:
    """Follow a run without its output until it is over; None when only the store tells that it is."""
    from launcher.ssh.following import follow

    told = ""
    while True:
        try:
            return follow(
                found.profile, found.run, opened=found.opened, output=lambda stream, data: None, tell=lambda state: None
            )
        except TargetError as e:
            if found.opened is not None and over(found.opened, found.run):
                return None
            if told != (told := e.problems[0].message) and not settings().quiet:
                click.echo(f"note: {told}", err=True)
        time.sleep(AGAIN_S)


def over(opened: Store, run: str) -> bool:
    from launcher import records

    return records.load(opened, run).complete


def told_by(state: State | None, found: Found) -> int:
    from launcher import records

    if found.opened is not None:
        record = records.load(found.opened, found.run)
        if record.state == "succeeded":
            return ALL_WELL
    return ALL_WELL if state is not None and state.code == 0 else BADLY


def relayed_beside(opened: Store, place: str | None, run: str) -> None:
    """Bring along, in the background, what a box has for the store, for as long as this process reads from there."""
    from launcher.ssh.door import last_sent

    told = last_sent(opened, run)
    if told is None or told.kind != "ssh" or told.ship != "relay":
        return
    threading.Thread(target=relay, args=(place, run), daemon=True).start()


def relay(place: str | None, run: str) -> None:
    """Follow a run for the sake of its store alone."""
    from launcher.cli.boxes import find

    try:
        heard_out(find(place, run))
    except LauncherError as e:
        click.echo(f"warning: {e.problems[0].message}", err=True)
