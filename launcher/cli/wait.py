"""`launcher wait`: until a sweep or a run is over; meanwhile what waits for the site's limit is submitted."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from launcher.cli.listing import store_option
from launcher.cli.output import json_option, print_json
from launcher.cli.settings import settings
from launcher.errors import LauncherError, UnreachableError, UsageError

if TYPE_CHECKING:
    from launcher.cli.sweeps import View
    from launcher.job.sweeps import Plan
    from launcher.store.objects import Store

POLL_S, POLL_FOLDER_S = 10.0, 2.0
GO_ON_S = 30.0  # so often it is tried to submit what waits: each try is an sbatch that may be refused
CLEAR_LINE = "\r\033[K"  # ECMA-48: erase to the end of the line
ALL_WELL, BADLY, NOT_OVER = 0, 1, 3


@click.command()
@click.argument("word", metavar="SWEEP|RUN")
@click.option("--timeout", metavar="TIME", help="Give up after so long, such as 90m: then the exit code is 3.")
@store_option
@json_option
@click.pass_context
def wait(ctx: click.Context, word: str, timeout: str | None, store: str | None, as_json: bool) -> int:
    """Wait until all points of a SWEEP, or a RUN, are over; on a terminal with a line that tells how far it is.

    The exit code is 0 when all have succeeded, 1 when all is over and some have not, 3 after --timeout. A store or a
    cluster that doesn't answer is waited for. Ctrl-C ends the waiting and nothing else.
    """
    from launcher import access
    from launcher.cli.sweeps import named

    until = deadline(timeout)
    opened = access.open_to_read(store)
    found = named(opened, store, word)
    if found.sweep is None:
        from launcher.cli.box_wait import is_on_box, wait_on_box

        if is_on_box(opened, str(found.run)):
            return wait_on_box(store, str(found.run), until, as_json)
        return wait_for_run(opened, store, str(found.run), until, as_json)
    return wait_for_sweep(opened, store, found.sweep, found.run, until, as_json)


def deadline(text: str | None) -> float:
    """Read a time span; return the moment of the monotonic clock. Raises UsageError."""
    from launcher.spec.units import clock_seconds

    if text is None:
        return float("inf")
    if (seconds := clock_seconds(text)) is None:
        raise UsageError(f"--timeout {text}: is no time span", hint="write one such as 90m, 12h or 2d")
    return time.monotonic() + seconds


def wait_for_sweep(store: Store, place: str | None, sweep: str, run: str | None, until: float, as_json: bool) -> int:
    """Look at a sweep again and again until it, or one of its points, is over."""
    from launcher.cli.sweep_status import facts

    line, plan, tried = Line(), None, -GO_ON_S
    while True:
        view = look(store, place, sweep, line, plan)
        plan = view.plan if view else plan
        if view is not None and (code := ended(view, run)) is not None:
            break
        if time.monotonic() >= until:
            code = NOT_OVER
            break
        if view is not None and view.standing.of("waiting") and time.monotonic() - tried >= GO_ON_S:
            go_on(store, sweep, line)
            tried = time.monotonic()
        time.sleep(max(0.0, min(POLL_FOLDER_S if store.folder else POLL_S, until - time.monotonic())))
    line.end()
    if as_json and view is not None:
        print_json(facts(view, whole=False))
    return code


def look(store: Store, place: str | None, sweep: str, line: Line, plan: Plan | None) -> View | None:
    """Return how a sweep stands; None when the store doesn't answer now."""
    from launcher.cli.sweeps import viewed

    try:
        with viewed(store, place, sweep, plan=plan) as view:
            line.tell(view)
            return view
    except UnreachableError as e:
        line.note(e.problems[0].message)
        return None


def ended(view: View, run: str | None) -> int | None:
    """Return the exit code when what is waited for is over, else None."""
    from launcher.records.standing import OVER

    found = view.standing
    if run is None:
        if not found.over:
            return None
        return ALL_WELL if all(point.state == "succeeded" for point in found.points) else BADLY
    index = view.plan.index(run)
    assert index is not None, "the plan has this run"
    point = found.points[index]
    if point.state not in OVER or point.live is True:
        return None
    return ALL_WELL if point.state == "succeeded" else BADLY


def go_on(store: Store, sweep: str, line: Line) -> None:
    """Submit what waits for the site's limit, where the site can be reached."""
    from launcher.cli.opinion import entered, targets
    from launcher.records.sweeps import cancelled
    from launcher.slurm import ledger as ledgers
    from launcher.slurm.submission import repair

    for name in targets(ledgers.read(store, sweep)):
        try:
            with entered(name) as door:
                repair(store, sweep, door=door, cancelled=cancelled(store, sweep))
        except LauncherError as e:
            line.note(e.problems[0].message)


def wait_for_run(store: Store, place: str | None, run: str, until: float, as_json: bool) -> int:
    """Wait for a run that is no point of a sweep."""
    from launcher.cli.ls import shown
    from launcher.cli.runs import listed

    while True:
        with listed(place, about=[run]) as runs:
            [told] = runs.get([run])
        if told.state not in ("queued", "running") or time.monotonic() >= until:
            break
        time.sleep(max(0.0, min(POLL_FOLDER_S if store.folder else POLL_S, until - time.monotonic())))
    if as_json:
        print_json(shown(told))
    if told.state in ("queued", "running", "unknown"):
        return NOT_OVER
    return ALL_WELL if told.state == "succeeded" else BADLY


class Line:
    """One line on a terminal that is written over; in a pipe nothing but notes, each once."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and not settings().quiet
        self.told: set[str] = set()
        self.drawn = False

    def tell(self, view: View) -> None:
        from launcher.cli.sweep_status import UNSENT, unsent

        for text in view.notes:
            self.note(text)
        if any(unsent(point) for point in view.standing.points):
            self.note(f"some points are {UNSENT}")
        if self.live:
            counts = ", ".join(f"{count} {state}" for state, count in view.standing.counts.items())
            sys.stderr.write(f"{CLEAR_LINE}{view.plan.sweep}: {counts}")
            sys.stderr.flush()
            self.drawn = True

    def note(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            click.echo(f"{CLEAR_LINE if self.drawn else ''}note: {text}", err=True)

    def end(self) -> None:
        if self.drawn:
            sys.stderr.write("\n")
