"""`launcher doctor`: look at a cluster or a box, say what was found and what is missing, and remember it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from launcher.cli.hostkeys import decide, host_key_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.errors import TargetError

if TYPE_CHECKING:
    from launcher.profiles import Profile
    from launcher.profiles.doctor import Report
    from launcher.remote import Shell

WAIT_S = 60
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What a cluster is asked besides its login node."""

    job: bool = True
    partitions: tuple[str, ...] = ()
    wait_s: int = WAIT_S
    modules: bool = False


EVERYTHING = Questions()


@click.command("doctor")
@click.argument("target")
@click.option("--no-job", is_flag=True, help="Ask the login node only: no probe runs on nodes.")
@click.option("--partition", "partitions", multiple=True, metavar="P", help="Probe this partition; may be repeated.")
@click.option("--wait", "wait_s", type=click.IntRange(1, 500), default=WAIT_S, show_default=True, metavar="SECONDS")
@click.option("--modules", is_flag=True, help="List the site's modules that may matter.")
@host_key_option
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    target: str,
    no_job: bool,
    partitions: tuple[str, ...],
    wait_s: int,
    modules: bool,
    host_keys: tuple[str, ...],
    as_json: bool,
) -> None:
    """Look at TARGET: Slurm, limits, folders, runtimes, GPUs. What was found is kept for `submit`, `run` and `check`.

    On a cluster a short job in each partition (two minutes at most, one CPU, one GPU where there are some) looks at a
    node; --wait says for how long they may wait for one. A box is asked in one round trip. The exit code is 69 when
    something is missing that runs there need.
    """
    from launcher import profiles

    if target == "local":
        raise TargetError("`local` is this machine", hint="`launcher check SPEC` looks at it")
    profile = profiles.load(target)
    questions = Questions(job=not no_job, partitions=partitions, wait_s=wait_s, modules=modules)
    ctx.exit(examined(profile, questions, host_keys=host_keys, as_json=as_json))


def examined(
    profile: Profile, questions: Questions = EVERYTHING, *, host_keys: tuple[str, ...] = (), as_json: bool = False
) -> int:
    """Look at a cluster or a box, keep and print what was found; return the exit code."""
    from launcher import profiles, remote
    from launcher.cli.check import print_findings
    from launcher.profiles.fit_nodes import counted

    with contextlib.closing(remote.open(profile)) as shell:
        if profile.host is not None:
            from launcher.remote.hostkeys import introduce

            introduce(shell, decide, host_keys)
        report = of_box(shell, profile) if profile.kind == "ssh" else of_cluster(shell, profile, questions)
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


def of_cluster(shell: Shell, profile: Profile, questions: Questions) -> Report:
    from launcher import profiles
    from launcher.profiles.doctor import examine

    return examine(
        shell,
        profile,
        before=profiles.load_found(profile.name),
        job=questions.job,
        partitions=questions.partitions,
        wait_s=questions.wait_s,
        endpoint=endpoint(profile.store),
        modules=questions.modules,
        progress=choose_progress(),
    )


def of_box(shell: Shell, profile: Profile) -> Report:
    from launcher.profiles.box_doctor import examine

    choose_progress().note(f"asking {shell.where}")
    return examine(shell, profile, endpoint=endpoint(profile.store))


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
