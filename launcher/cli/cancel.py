"""`launcher cancel`: points that are not wanted any more; the store is told first, then the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.listing import store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.errors import LauncherError, TargetError, UsageError

if TYPE_CHECKING:
    from launcher.cli.sweeps import Named
    from launcher.slurm.cancelling import Cancelled
    from launcher.slurm.door import Door
    from launcher.store.objects import Store


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SWEEP|RUN...")
@click.option("--on", "target", metavar="TARGET", help="The box, where no store that is at hand knows the RUN.")
@store_option
@json_option
@click.pass_context
def cancel(ctx: click.Context, words: tuple[str, ...], target: str | None, store: str | None, as_json: bool) -> int:
    """Cancel sweeps, single runs of them, or runs on boxes: what waits is not begun, what runs is asked to stop and to
    save.

    What has succeeded stays. `launcher retry` takes up what was cancelled, `launcher resume` a run on a box. The exit
    code is 69 when a cluster or a box could not be reached. For a cluster it is then told in the store alone, and tasks
    that begin there later see it and end; what is on a box runs on.
    """
    from launcher import access
    from launcher.cli.box_cancel import cancel_runs, split

    opened = access.open(store)
    runs, points = split(opened, store, words, target)
    found = [(sweep, cancelled(opened, sweep, these)) for sweep, these in chosen(opened, store, points).items()]
    ended = cancel_runs(runs)
    if as_json:
        print_json([*(facts(sweep, done) for sweep, done in found), *(one.facts() for one in ended)])
    for sweep, done in [] if as_json else found:
        tell(sweep, done, " ".join(words))
    for one in [] if as_json else ended:
        one.tell()
    unheard = any(done.complaints for _, done in found) or any(one.complaint for one in ended)
    return TargetError.exit_code if unheard else 0


def chosen(store: Store, place: str | None, words: Sequence[str]) -> dict[str, list[int]]:
    """Return the points that words name, by their sweeps. Raises UsageError for runs that are no points of one."""
    from launcher.cli.sweeps import named
    from launcher.records import sweeps

    found: dict[str, list[int]] = {}
    for word in [named(store, place, word) for word in words]:
        refuse_alone(word)
        plan = sweeps.plan(store, str(word.sweep))
        points = list(range(len(plan))) if word.run is None else [index_of(plan.index(word.run), word)]
        found[plan.sweep] = sorted({*found.get(plan.sweep, []), *points})
    return found


def refuse_alone(word: Named) -> None:
    if word.sweep is None:
        hint = f"`launcher resume {word.run}` goes on with it, where it was or elsewhere"
        raise UsageError(f"{word.run} is no point of a sweep: no cluster was told of it", hint=hint)


def index_of(index: int | None, word: Named) -> int:
    if index is None:
        raise UsageError(f"{word.run} is not in the plan of {word.sweep}")
    return index


def cancelled(store: Store, sweep: str, points: Sequence[int]) -> Cancelled:
    """Mark points in the store, and tell every cluster that they were submitted to."""
    from launcher.cli.opinion import entered, targets
    from launcher.slurm import ledger as ledgers
    from launcher.slurm.cancelling import cancel as cancel_points
    from launcher.slurm.cancelling import mark, with_site

    mark(store, sweep, points)  # before anything that may take its time: nodes look at it
    doors: list[Door] = []
    silent = []
    with contextlib.ExitStack() as stack:
        for name in targets(ledgers.read(store, sweep)):
            try:
                doors.append(stack.enter_context(entered(name)))
            except LauncherError as e:
                silent.append(f"{name} can't be reached: {e.problems[0].message}")
        done = cancel_points(store, sweep, points, doors=doors)
    return with_site(done, complaints=silent)


def tell(sweep: str, done: Cancelled, words: str) -> None:
    count = len(done.points)
    print_text(
        f"{sweep}: {count} point{'s are' if count != 1 else ' is'} not wanted any more; what has succeeded stays"
    )
    if done.jobs:
        print_text(f"  Slurm was told to cancel {', '.join(done.jobs)}")
    if done.beside:
        packed = ", ".join(map(str, done.beside))
        print_text(f"  running on until their tasks, which have other points too, come to them: {packed}")
    for complaint in done.complaints:
        click.echo(f"warning: {complaint}", err=True)
    if done.complaints:
        print_text(
            f"next: launcher cancel {words}, again, when the cluster answers: what runs there runs on until then"
        )
        return
    print_text(f"next: launcher status {sweep}; launcher retry {sweep} takes them up again")


def facts(sweep: str, done: Cancelled) -> dict[str, Any]:
    same = {"points": done.points, "jobs": done.jobs, "beside": done.beside, "complaints": done.complaints}
    return {"sweep": sweep, **same}
