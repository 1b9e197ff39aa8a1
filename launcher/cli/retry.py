"""`launcher retry`: points of a sweep once more, as next attempts of the same runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.listing import store_option
from launcher.cli.output import json_option, print_json
from launcher.cli.progress import choose_progress
from launcher.errors import Problem, UsageError

if TYPE_CHECKING:
    from launcher.cli.errand import Done
    from launcher.job.sweeps import Plan
    from launcher.records.standing import Stand, Standing
    from launcher.store.access import Access
    from launcher.store.objects import Store


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SWEEP|RUN...")
@click.option("--failed", "only_failed", is_flag=True, help="Not what was cancelled: only what came to a bad end.")
@click.option("--on", "target", metavar="TARGET", help="Another cluster than the one it was submitted to.")
@click.option("--time", "time_limit", metavar="TIME", help="Another time limit than the spec's, such as 90m or 2d.")
@click.option("--data", "given", multiple=True, metavar="NAME=PATH", help="Where an input is now.")
@store_option
@json_option
def retry(
    words: tuple[str, ...],
    only_failed: bool,
    target: str | None,
    time_limit: str | None,
    given: tuple[str, ...],
    store: str | None,
    as_json: bool,
) -> int:
    """Run points of a SWEEP again that failed, were killed, lost or cancelled, or the RUNs that are named.

    They go on as the next attempts of the same runs, from their last checkpoints. What has succeeded, is queued or runs
    is left alone. Image, code and inputs are those of the plan, whatever has become of the spec.
    """
    from launcher.cli import execution
    from launcher.cli.cancel import chosen
    from launcher.cli.rerun import given_paths
    from launcher.cli.submit import asked, code, facts, report
    from launcher.records import sweeps

    opened, access = execution.open_store(store)
    limits = asked(None, None, None, time_limit)
    paths = given_paths(given)
    done = []
    for sweep, points in chosen(opened, store, words).items():
        plan = sweeps.plan(opened, sweep)
        choose = choosing(points, len(points) == len(plan), only_failed)
        done.append(sent(plan, opened, access, store, target, choose, limits, paths))
    if as_json:
        print_json([facts(one) for one in done])
    for one in [] if as_json else done:
        report(one, False)
    return code(*done)


def choosing(points: Sequence[int], whole: bool, only_failed: bool) -> Callable[[Standing], Sequence[int]]:
    """Return what chooses the points that are sent. Of single runs, one that can't be is told with the reason."""
    from launcher.records.standing import failed, to_do

    def choose(found: Standing) -> Sequence[int]:
        may = set(failed(found) if only_failed else to_do(found, cancelled=True))
        if not whole and (wrong := [found.points[point] for point in points if point not in may]):
            raise UsageError.of(refusal(point) for point in wrong)
        return [point for point in points if point in may]

    return choose


def refusal(point: Stand) -> Problem:
    if point.state == "succeeded":
        return Problem(message=f"{point.run} has succeeded", hint=f"`launcher rerun {point.run}` runs it again, here")
    if point.state in ("queued", "running", "waiting"):
        return Problem(message=f"{point.run} is {point.state}", hint="`launcher cancel` ends it")
    if point.live is not False:
        why = point.reason or "the cluster does not answer"
        return Problem(message=f"{point.run} is {point.state}, and nobody knows whether its task is over: {why}")
    return Problem(message=f"{point.run} is {point.state}", hint="leave --failed out to take up what was cancelled")


def sent(
    plan: Plan,
    opened: Store,
    access: Access,
    place: str | None,
    target: str | None,
    choose: Callable[[Standing], Sequence[int]],
    limits: object,
    given: dict[str, Path],
) -> Done:
    """Submit points of a plan, with what it names brought back from the store."""
    from launcher.cli import preparing
    from launcher.cli.errand import Errand
    from launcher.cli.submit import told_how_to_go_on
    from launcher.profiles import load

    profile = load(target or last_target(opened, plan))
    preparing.refuse_wrong_kind(profile)
    preparing.refuse_unreachable_store(profile, access)
    cache, progress = Cache(), choose_progress()
    errand = Errand(
        profile=profile,
        opened=opened,
        access=access,
        place=place,
        cache=cache,
        freight=lambda: preparing.brought_back(plan, opened, cache, progress, given),
        asked=limits,  # type: ignore[arg-type]
        choose=choose,
        unmark=True,
    )
    with told_how_to_go_on(f"launcher retry {plan.sweep}"):
        return errand.run(plan)


def last_target(store: Store, plan: Plan) -> str:
    """Return the target that was submitted to last. Raises UsageError when there was none."""
    from launcher.cli.opinion import targets
    from launcher.slurm import ledger as ledgers

    if found := targets(ledgers.read(store, plan.sweep)):
        return found[-1]
    raise UsageError(f"{plan.sweep} was never submitted", hint="name a target by --on")
