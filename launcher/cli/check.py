"""`launcher check`: whether a target can serve a spec, before anything is built or queued."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.listing import store_option
from launcher.cli.output import HERE, json_option, print_json, print_text, runtime_option
from launcher.cli.progress import choose_progress
from launcher.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.findings import Finding
    from launcher.lock import Lock
    from launcher.profiles import Profile
    from launcher.spec.model import Resources, Spec
    from launcher.store.access import Access
    from launcher.target.facts import Facts
    from launcher.target.model import Runtime

STYLES = {"ok": "green", "warning": "yellow", "unknown": "cyan", "refused": "red"}


@click.command("check")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option("--on", "target", default=HERE, show_default=True, metavar="TARGET", help="The target to ask.")
@runtime_option
@store_option
@click.option("--frozen", is_flag=True, help="Refuse when the lock is missing or no longer fits.")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    spec: Path | None,
    target: str,
    runtime: str | None,
    store: str | None,
    frozen: bool,
    as_json: bool,
) -> None:
    """Compare SPEC (experiment.yaml) and its lock with a target: driver, GPUs, runtimes, space, store, inputs.

    A cluster is compared by what `launcher doctor` found there; it isn't asked again. A box is, in one round trip.

    Every finding is told with what to do. The exit code is 69 when one of them refuses, 0 otherwise: what is unknown
    refuses nothing.
    """
    from launcher import profiles
    from launcher import target as targets
    from launcher.cli import inputs
    from launcher.cli.pipeline import given, locked
    from launcher.store import default_url

    cache = Cache()
    profile = seen_now(profiles.load(target), store) if target != HERE else None
    chosen = targets.open("local", cache, runtime=runtime)
    loaded, lock = locked(given(spec), cache, choose_progress(), frozen=frozen)
    facts: Facts | Profile
    if profile is not None:
        found, facts = of_site(lock, loaded, profile, store), profile
    else:
        place, here = store or loaded.store or default_url(), inputs.lying(loaded)
        found, facts = look(lock, loaded.resources, cache, chosen.runtimes, place, here, whole=True)
    found += inputs.findings(lock, loaded, cache)
    fits = all(finding.verdict != "refused" for finding in found)
    if as_json:
        print_json({"target": target, "fits": fits, "findings": found, "facts": facts})
    else:
        report(found, target)
    ctx.exit(0 if fits else TargetError.exit_code)


def seen_now(profile: Profile, store: str | None) -> Profile:
    """Return a target's profile; a box is asked for what may have changed. Raises TargetError where no way leads."""
    if profile.kind != "ssh":
        return profile
    from contextlib import closing

    from launcher import remote
    from launcher.cli.doctor import endpoint
    from launcher.profiles.box_doctor import glance

    with closing(remote.open(profile)) as shell:
        return glance(shell, profile, endpoint=endpoint(store or profile.store))


def of_site(lock: Lock, spec: Spec, profile: Profile, store: str | None) -> list[Finding]:
    """Compare with what `launcher doctor` found of a cluster, and ask the store from here."""
    from launcher.findings import Finding
    from launcher.lock.toolkits import toolkits
    from launcher.profiles.fit import compare

    found = compare(spec, lock.gpu, profile, architecture=lock.architecture, toolkits=toolkits())
    found.append(store_of_site(profile, store or spec.store or profile.store))
    warned = (Finding(subject="site", verdict="warning", says=one.says, hint=one.hint) for one in profile.warnings)
    return [*found, *warned]


def store_of_site(profile: Profile, place: str | None) -> Finding:
    """Say whether a store is one that the nodes see, too, and whether it answers here."""
    from launcher import access
    from launcher.cli.preparing import refuse_unreachable_store
    from launcher.findings import Finding

    reached = access.of(place)
    if profile.kind == "ssh":
        return store_of_box(profile, reached)
    try:
        refuse_unreachable_store(profile, reached)
    except TargetError as e:
        problem = e.problems[0]
        return Finding(subject="store", verdict="refused", says=problem.message, hint=problem.hint)
    return access.reach(reached)


def store_of_box(profile: Profile, reached: Access) -> Finding:
    """Say whether the store answers here, and how it is reached from a box."""
    from dataclasses import replace

    from launcher import access
    from launcher.findings import Finding
    from launcher.store import folder_of

    if reached.url.startswith("memory:"):
        says, hint = "a store in memory is this process's alone", "name a bucket or a folder by --store or `store:`"
        return Finding(subject="store", verdict="refused", says=says, hint=hint)
    folder = folder_of(reached.url)
    if folder is not None and profile.ship == "direct":
        says = f"the store {folder} is a folder of this machine, and {profile.name} can't write there itself"
        return Finding(subject="store", verdict="refused", says=says, hint='name a bucket, or take ship = "relay"')
    found = access.reach(reached)
    relays = folder is not None or profile.ship == "relay" or profile.outbound is False
    return replace(found, says=f"{found.says}; what runs write comes through this connection") if relays else found


def look(
    lock: Lock,
    asked: Resources,
    cache: Cache,
    runtimes: Sequence[Runtime],
    store: str,
    data: Mapping[str, Path],
    *,
    whole: bool,
) -> tuple[list[Finding], Facts]:
    """Ask this machine, and compare. Without `whole` only what a run needs to know is asked."""
    from launcher.cli import interpreter
    from launcher.gpu.table import Toolkits
    from launcher.lock.toolkits import toolkits
    from launcher.target.check import compare
    from launcher.target.survey import survey

    gpus = bool(asked.gpus.count)
    facts = survey(lock, cache, runtimes, store=store, data=data, gpus=gpus or whole, whole=whole)
    found = compare(lock, asked, facts, toolkits() if gpus else Toolkits())
    python = interpreter.finding(lock, cache)
    return [*found, *([python] if python else [])], facts


def refuse_unfit(
    lock: Lock, asked: Resources, cache: Cache, runtime: str | None, store: str, data: Mapping[str, Path]
) -> None:
    """Raise TargetError with every reason why this machine can't run it, before its image is built."""
    from launcher import target as targets
    from launcher.target.check import refusal

    runtimes = targets.open("local", cache, runtime=runtime).runtimes
    found, _ = look(lock, asked, cache, runtimes, store, data, whole=False)
    if error := refusal(found):
        raise error


def report(found: Sequence[Finding], target: str) -> None:
    """Print the findings, and what they come to."""
    print_findings(found)
    refused = sum(finding.verdict == "refused" for finding in found)
    unknown = dict.fromkeys(finding.subject for finding in found if finding.verdict == "unknown")
    serves = f"{target} can serve it" + (f", as far as can be told; unknown: {', '.join(unknown)}" if unknown else "")
    print_text(f"{target} can't serve it: {refused} refused" if refused else serves)


def print_findings(found: Sequence[Finding]) -> None:
    """Print the findings as a list, each with its hint below."""
    from launcher.cli.listing import one_line

    width = max(len(finding.subject) for finding in found)
    for finding in found:
        verdict = styled(finding.verdict.ljust(8), finding.verdict)
        print_text(f"{verdict} {finding.subject.ljust(width)}  {one_line(finding.says)}")
        if finding.hint and finding.verdict != "ok":
            print_text(f"{'':8} {'':{width}}  hint: {one_line(finding.hint)}")


def styled(text: str, verdict: str) -> str:
    """Colour a word for a terminal. NO_COLOR (no-color.org) and TERM=dumb are honoured."""
    import os
    import sys

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else click.style(text, fg=STYLES[verdict])
