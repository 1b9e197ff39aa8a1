"""`launcher doctor`: look at a cluster, say what was found and what is missing, and remember it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.errors import TargetError

if TYPE_CHECKING:
    from launcher.profiles import Profile

WAIT_S = 60
PORTS = {"https": 443, "http": 80}


@click.command("doctor")
@click.argument("target")
@click.option("--no-job", is_flag=True, help="Ask the login node only: no probe runs on nodes.")
@click.option("--partition", "partitions", multiple=True, metavar="P", help="Probe this partition; may be repeated.")
@click.option("--wait", "wait_s", type=click.IntRange(1, 500), default=WAIT_S, show_default=True, metavar="SECONDS")
@click.option("--modules", is_flag=True, help="List the site's modules that may matter.")
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    target: str,
    no_job: bool,
    partitions: tuple[str, ...],
    wait_s: int,
    modules: bool,
    as_json: bool,
) -> None:
    """Look at TARGET: Slurm, limits, folders, runtimes, GPUs. What was found is kept for `submit` and `check`.

    A short job in each partition (two minutes at most, one CPU, one GPU where there are some) looks at a node; --wait
    says for how long they may wait for one. The exit code is 69 when something is missing that runs there need.
    """
    from launcher import profiles

    if target == "local":
        raise TargetError("`local` is this machine", hint="`launcher check SPEC` looks at it")
    profile = profiles.load(target)
    ctx.exit(examined(profile, job=not no_job, partitions=partitions, wait_s=wait_s, modules=modules, as_json=as_json))


def examined(
    profile: Profile,
    *,
    job: bool = True,
    partitions: tuple[str, ...] = (),
    wait_s: int = WAIT_S,
    modules: bool = False,
    as_json: bool = False,
) -> int:
    """Look at a cluster, keep and print what was found; return the exit code."""
    from launcher import profiles, remote
    from launcher.cli.check import print_findings
    from launcher.profiles.doctor import examine
    from launcher.profiles.fit_nodes import counted

    shell = remote.open(profile)
    try:
        report = examine(
            shell,
            profile,
            before=profiles.load_found(profile.name),
            job=job,
            partitions=partitions,
            wait_s=wait_s,
            endpoint=endpoint(profile.store),
            modules=modules,
            progress=choose_progress(),
        )
    finally:
        shell.close()
    file = profiles.save_found(report.profile)
    missing = sum(finding.verdict == "refused" for finding in report.findings)
    if as_json:
        print_json(
            {"target": profile.name, "fits": not missing, "findings": report.findings, "profile": report.profile}
        )
    else:
        print_findings(report.findings)
        verdict = f"{counted(missing, 'thing')} to mend" if missing else "runs can go there"
        print_text(f"{profile.name}: {verdict}; kept in {file}")
    return TargetError.exit_code if missing else 0


def endpoint(store: str | None) -> tuple[str, int] | None:
    """Return the host and port that nodes have to reach for a store, where its server was configured.

    None where no server is named: that of a cloud's own service depends on region and account.
    """
    from launcher import access

    url = access.of(store).settings.get("endpoint") if store and "://" in store else None
    if not url:
        return None
    parts = urlsplit(url)
    return (parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443)) if parts.hostname else None
