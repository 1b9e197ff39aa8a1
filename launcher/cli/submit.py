"""`launcher submit`: a spec with its sweep to a cluster; what is done already is not run again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.cache import Cache
from launcher.cli.listing import store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.cli.settings import settings
from launcher.errors import TargetError, UnreachableError, UsageError

if TYPE_CHECKING:
    from launcher.cli.errand import Done, Drafted
    from launcher.profiles import Profile
    from launcher.records.standing import Stand
    from launcher.slurm.model import Report
    from launcher.slurm.options import Asked


@click.command("submit")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option("--on", "target", required=True, metavar="TARGET", help="The cluster: a name of `launcher target list`.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Override a parameter.")
@click.option("--partition", metavar="NAME", help="Another partition than the target's.")
@click.option("--account", metavar="NAME", help="Another account than the target's.")
@click.option("--qos", metavar="NAME", help="Another quality of service than the target's.")
@click.option("--time", "time_limit", metavar="TIME", help="Another time limit than the spec's, such as 90m or 2d.")
@click.option("--again", is_flag=True, help="Run all points again, as a new sweep, whatever is done already.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
@click.option("--frozen", is_flag=True, help="Refuse when the lock is missing or no longer fits.")
@store_option
@json_option
def submit(
    spec: Path | None,
    target: str,
    params: tuple[str, ...],
    partition: str | None,
    account: str | None,
    qos: str | None,
    time_limit: str | None,
    again: bool,
    dry_run: bool,
    frozen: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """Submit the points of SPEC (experiment.yaml) to a cluster: lock it, build its image, send what is missing there.

    The same spec again is the same sweep: what is done, queued or running stays, what is missing or failed is
    submitted. So an interrupted submit is taken up by the same command. A spec without `sweep:` is a sweep of one.
    """
    from launcher.cli import execution, pipeline, preparing
    from launcher.cli.errand import Errand
    from launcher.profiles import load
    from launcher.records.standing import to_do

    profile = with_words(load(target), partition, account, qos)
    preparing.refuse_wrong_kind(profile)
    cache, progress = Cache(), choose_progress()
    with told_how_to_go_on(f"launcher submit {spec or ''} --on {target}".replace("  ", " ")):
        loaded, lock = pipeline.locked(pipeline.given(spec), cache, progress, frozen=frozen)
        loaded = preparing.with_store(loaded, store, profile)
        opened, access = execution.open_store(loaded.store)
        preparing.refuse_unreachable_store(profile, access)
        ready = preparing.prepared(spec, params, profile, (loaded, lock), opened, access, cache, progress)
        errand = Errand(
            profile=profile,
            opened=opened,
            access=access,
            place=loaded.store,
            cache=cache,
            freight=lambda: ready.freight,
            asked=asked(partition, account, qos, time_limit),
            choose=to_do,
        )
        if dry_run:
            show(errand.drafted(preparing.foreseen(ready.plan, opened, again)), as_json)
            return 0
        preparing.keep(ready, opened)
        done = errand.run(preparing.settled(ready.plan, opened, again))
    report(done, as_json)
    return code(done)


def with_words(profile: Profile, partition: str | None, account: str | None, qos: str | None) -> Profile:
    """Return a profile with what the command line says."""
    return replace(
        profile,
        partition=partition or profile.partition,
        account=account or profile.account,
        qos=qos or profile.qos,
    )


def asked(partition: str | None, account: str | None, qos: str | None, time_limit: str | None) -> Asked:
    """Read what the command line asks of Slurm. Raises UsageError."""
    from launcher.slurm.options import Asked
    from launcher.spec.units import clock_seconds

    time_s = None if time_limit is None else clock_seconds(time_limit)
    if time_limit is not None and not time_s:
        raise UsageError(f"--time {time_limit}: is no time span", hint="write one such as 90m, 12h or 2d")
    return Asked(partition=partition, account=account, qos=qos, time_s=int(time_s) if time_s else None)


class told_how_to_go_on:  # noqa: N801 - used as a function
    """Say on an interrupt that nothing is lost, and what to type."""

    def __init__(self, command: str) -> None:
        self.command = command.strip()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt and not settings().quiet:
            click.echo(f"nothing is lost: `{self.command}` goes on from here", err=True)


def show(drafted: Drafted, as_json: bool) -> None:
    """Print what would be sent: for each submission its points, its order and its batch script."""
    if as_json:
        print_json(
            {
                "sweep": drafted.before.plan.sweep,
                "before": drafted.before.counts,
                "points": list(drafted.indices),
                "submissions": [
                    {"groups": one.groups, "throttle": one.throttle, "order": json.loads(order), "script": script}
                    for one, order, script in drafted.submissions
                ],
            }
        )
        return
    plan = drafted.before.plan
    print_text(f"{plan.sweep}: {len(plan.runs)} points, {len(drafted.indices)} of them would be submitted now")
    for one, _, script in drafted.submissions:
        print_text(f"\nsbatch --parsable submission.sh   # {len(one.groups)} tasks, {len(one.points)} points")
        print_text(script.rstrip())


def report(done: Done, as_json: bool) -> None:
    """Say in few lines what was done, and what to type next."""
    if as_json:
        print_json(facts(done))
        return
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    for line in lines(done):
        print_text(line)


def code(*done: Done) -> int:
    """Return the exit code: TargetError's where Slurm refused something, UnreachableError's where it is silent."""
    told = [one.report for one in done if one.report is not None]
    if any(one.refused for one in told):
        return TargetError.exit_code
    return UnreachableError.exit_code if any(one.unknown for one in told) else 0


def facts(done: Done) -> dict[str, Any]:
    plan, told = done.before.plan, done.report
    return {
        "sweep": plan.sweep,
        "target": done.profile.name,
        "points": len(plan.runs),
        "before": done.before.counts,
        "sent": list(done.sent),
        "jobs": dict(told.jobs) if told else {},
        "submitted": told.points(told.placed) if told else 0,
        "repaired": told.points(told.found) if told else 0,
        "waiting": told.points(told.waiting) if told else 0,
        "limit": told.limit if told else None,
        "unknown": [[one.token, why] for one, why in told.unknown] if told else [],
        "refused": [[one.token, why] for one, why in told.refused] if told else [],
        "notes": list(done.notes),
    }


def lines(done: Done) -> list[str]:
    plan, told = done.before.plan, done.report
    count = len(plan.runs)
    found = [f"{plan.sweep}: {count} point{'s' * (count != 1)} on {done.profile.name}"]
    before = {state: number for state, number in done.before.counts.items() if state != "waiting"}
    if before:
        found.append("  before: " + ", ".join(f"{number} {state}" for state, number in before.items()))
    if told is None:
        found.append("  nothing to submit" + (nobody_knows(done) or not_wanted(done)))
    else:
        found += [f"  {line}" for line in of_report(told)]
    return [*found, next_command(done)]


def nobody_knows(done: Done) -> str:
    """Say of how many points nobody can tell whether they are to be sent: these are left alone."""
    count = sum(point.live is None and point.state != "succeeded" for point in done.before.points)
    return f": of {count} nobody can tell now whether they run; the same again asks again" if count else ""


def not_wanted(done: Done) -> str:
    """Say of how many points that came to a bad end a cancel is why they are left alone."""
    count = len(unwanted(done))
    return f": {count} that came to a bad end {'are' if count > 1 else 'is'} cancelled" if count else ""


def unwanted(done: Done) -> list[Stand]:
    """Return the points that came to a bad end, that somebody has cancelled, and of which surely nothing runs."""
    from launcher.records.standing import BAD

    return [point for point in done.before.of(*BAD) if point.unwanted and point.live is False]


def of_report(told: Report) -> list[str]:
    from launcher.slurm.model import Report

    jobs = ", ".join(sorted(set(told.jobs.values()), key=lambda job: (len(job), job)))
    found = [f"submitted: {told.points(told.placed)}" + (f" (Slurm's job {jobs})" if jobs and told.placed else "")]
    if told == Report():
        found = ["nothing to submit: another submit was there first, at this moment"]
    if told.found:
        found.append(f"found in Slurm, submitted by a submit that was cut short: {told.points(told.found)}")
    if told.waiting:
        limit = f" ({told.limit})" if told.limit else ""
        found.append(f"waiting for the site's limit of submitted jobs: {told.points(told.waiting)}{limit}")
    if told.dropped:
        found.append(f"never came to Slurm, and cancelled meanwhile: {told.points(told.dropped)}")
    found += [f"unknown: {len(one.points)}: {why}" for one, why in told.unknown]
    return [*found, *(f"refused: {len(one.points)}: {why}" for one, why in told.refused)]


def next_command(done: Done) -> str:
    sweep, store = done.before.plan.sweep, done.store
    if (done.before.of("cancelled") or unwanted(done)) if done.report is None else done.report.dropped:
        return f"next: launcher retry {sweep}{store} takes up what was cancelled"
    if done.report is None and all(point.state == "succeeded" for point in done.before.points):
        return f"next: launcher table {sweep}{store}"
    if done.report is not None and done.report.refused:
        return f"next: launcher status {sweep}{store}; once it is mended, the same again submits what was refused"
    return f"next: launcher status {sweep}{store}, launcher wait {sweep}{store}"
