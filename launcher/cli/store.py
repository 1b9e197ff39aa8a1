"""`launcher store`: what a store can do, before a run relies on it."""

from __future__ import annotations

import click

from launcher.cli.leftovers import gc
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress


@click.group("store")
def store() -> None:
    """Look at a store, and after it."""


store.add_command(gc)


@store.command("check")
@click.argument("url", required=False)
@click.option("--quick", is_flag=True, help="Leave out the speed of big files.")
@json_option
@click.pass_context
def check(ctx: click.Context, url: str | None, quick: bool, as_json: bool) -> None:
    """Try what launcher relies on in the store at URL: conditional create, ranges, parts, rights, clock, speed.

    Everything that it writes lies below checks/ and is removed. The exit code is 0 when a run can rely on the store;
    else 74, or 77 for credentials and rights, or 75 when nobody answers.
    """
    from launcher import access
    from launcher.access import probing
    from launcher.cli.check import print_findings

    opened = access.open(url)
    checked = probing.check(opened, quick=quick, progress=choose_progress())
    if as_json:
        print_json({"store": opened.url, "fits": checked.exit_code == 0, "findings": checked.findings})
    else:
        print_findings(checked.findings)
        refused = sum(finding.verdict == "refused" for finding in checked.findings)
        print_text(f"{opened.url}: {f'{refused} refused' if refused else 'a run can rely on it'}")
    ctx.exit(checked.exit_code)
