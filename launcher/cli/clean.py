"""`launcher target clean`: frees on a box or a cluster what nobody needs there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.listing import print_table, size, store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.progress import choose_progress
from launcher.errors import LauncherError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from launcher.profiles import Profile

    Ask = Callable[[Mapping[str, Any]], dict[str, Any]]

KINDS = {
    "runs": "what runs left that are over, and whole in the store",
    "sweeps": "orders and logs of submissions that are over",
    "engine": "images in the engine, as far as no other image shares it",
    "images": "images, SIFs",
    "layers": "layers of images",
    "code": "archives of code",
    "inputs": "inputs",
    "tools": "older launchers",
    "unpacked": "unpacked layers and code, byte code",
    "credentials": "credentials of stores",
}


@click.command("clean")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Tell what would go, and remove nothing.")
@click.option("--older", default="7d", show_default=True, help="Only what nobody needed or sent for so long.")
@click.option("--all", "everything", is_flag=True, help="Whatever its age: all that no run needs which is not over.")
@store_option
@json_option
def clean(name: str, dry_run: bool, older: str, everything: bool, store: str | None, as_json: bool) -> None:
    """Free what nobody needs on the target NAME: runs that are over, images, layers, code, inputs, older launchers.

    Never a run whose results are not all in its store, and nothing that launcher didn't bring. What a later run needs
    is sent again.
    """
    from launcher.profiles import load

    profile = load(name)
    argument = {"older_s": 0.0 if everything else seconds(older), "delete": False, "runtime": profile.runtime}
    with way(profile) as ask:
        answer = ask(argument)
        complete = whole(store or profile.store, answer["unsure"]) if answer["unsure"] else []
        if complete or not dry_run:
            answer = ask({**argument, "complete": complete, "delete": not dry_run})
    tell(profile, answer, dry_run, as_json)


def seconds(text: str) -> float:
    """Read a time span. Raises UsageError."""
    from launcher.spec.units import clock_seconds

    if (found := clock_seconds(text)) is None:
        raise UsageError(f"--older {text}: is no time span", hint="write one such as 12h, 7d or 0s")
    return float(found)


@contextlib.contextmanager
def way(profile: Profile) -> Iterator[Ask]:
    """Give what asks the target's agent to clean: one connection for all questions. Raises TargetError."""
    if profile.kind == "ssh":
        from launcher.ssh import door

        with door.opened(profile, progress=choose_progress()) as box:
            yield lambda argument: dict(box.ask("clean", argument))
        return
    with cluster(profile) as ask:
        yield ask


@contextlib.contextmanager
def cluster(profile: Profile) -> Iterator[Ask]:
    from launcher import remote
    from launcher.cache import Cache
    from launcher.remote.delivery import prepare
    from launcher.slurm import door as doors

    with contextlib.closing(remote.open(profile)) as shell:
        site, tools = prepare(shell, profile, [], Cache(), choose_progress())
        door = doors.open(shell, profile, tools, site.shared)
        common = {"shared": site.shared, "accounting": profile.accounting}
        yield lambda argument: dict(door.ask("clean", {**common, **argument}))


def whole(place: str | None, runs: Sequence[str]) -> list[str]:
    """Return the runs that are over and whole in the store; none where it can't be asked: they stay then."""
    from launcher import access, records

    found = []
    with contextlib.suppress(LauncherError):
        opened = access.open_to_read(place)
        for run in runs:
            with contextlib.suppress(LauncherError):
                record = records.load(opened, run)
                if record.complete and record.state not in ("running", "queued", "unknown"):
                    found.append(run)
    return found


def tell(profile: Profile, answer: Mapping[str, Any], dry_run: bool, as_json: bool) -> None:
    every = answer["found"] if dry_run else answer["removed"]
    if as_json:
        print_json({"target": profile.name, "dry_run": dry_run, "bytes": total(every), **answer})
        return
    rows = [
        (kind, str(len(found)), size(total(found)), what)
        for kind, what in KINDS.items()
        if (found := [one for one in every if one["kind"] == kind])
    ]
    if rows:
        print_table(("KIND", "COUNT", "SIZE", "WHAT"), rows)
    print_text(f"{profile.name}: {'would free' if dry_run else 'freed'} {size(total(every))}")
    if not dry_run and (stuck := len(answer["found"]) - len(every)):
        print_text(f"{stuck} of them could not be removed, such as images that a container still has")
    if left := answer["unsure"]:
        names = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
        rest = "`launcher pull RUN` brings what can come, and the rest is in cache/runs/RUN of launcher's folder there"
        print_text(f"kept, since not all of them is known to be in the store: {names}; {rest}")


def total(found: Sequence[Mapping[str, Any]]) -> int:
    return sum(one["bytes"] for one in found)
