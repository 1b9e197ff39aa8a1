"""What the verbs that list runs share: which runs, as of when, and what to say when the store doesn't answer."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from launcher.cli.listing import age
from launcher.errors import AccessError, StoreError, UnreachableError, UsageError
from launcher.store import folder_of

if TYPE_CHECKING:
    from launcher.records.runs import Runs
    from launcher.store.objects import Store

Command = TypeVar("Command", bound=Callable[..., Any])
STATES = ("queued", "running", "succeeded", "failed", "killed", "refused", "unknown")
MOST_WRONG = 5  # runs that can't be read are told of by name
RUN_ID = re.compile(r"\d{8}-\d{6}-.+-[a-z2-7]{6}(-\d{5,})?")  # the runs of a sweep end in their point
SINCE_HINT = "write a time span such as 90m or 2d, or a moment in UTC such as 2026-01-31 or 2026-01-31T12:00"


def index_options(command: Command) -> Command:
    """Add `--offline` and `--refresh`; the function gets `offline: bool` and `refresh: bool`."""
    for name, text in (
        ("--refresh", "List all runs again, and ask about each of them."),
        ("--offline", "Ask no store: tell what this machine knew when it last did."),
    ):
        command = click.option(name, is_flag=True, help=text)(command)
    return command


def filter_options(command: Command) -> Command:
    """Add `--name`, `--state` and `--since`; the function gets `name`, `state` and `since` (Unix time)."""
    text = "Only runs queued since then: a time span such as 2d, or a moment in UTC."
    command = click.option("--since", callback=moment, metavar="WHEN", help=text)(command)
    text = "Only runs in this state (may be repeated)."
    command = click.option("--state", multiple=True, type=click.Choice(STATES), help=text)(command)
    return click.option("--name", help="Only runs of the experiment with this name.")(command)


def moment(context: click.Context | None, option: object, text: str | None) -> float | None:
    """Read `2d` or `2026-01-31`; return Unix time. Raises UsageError."""
    from launcher.spec.units import clock_seconds

    if text is None:
        return None
    if text and (seconds := clock_seconds(text)) is not None:
        return time.time() - seconds
    try:
        found = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        raise UsageError(f"--since {text}: is no time", hint=SINCE_HINT) from None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


@contextmanager
def listed(
    place: str | None, *, offline: bool = False, refresh: bool = False, about: Collection[str] = ()
) -> Iterator[Runs]:
    """Give the runs of a store, as they are now, or as they were when it last answered: that is said on stderr."""
    from launcher import access
    from launcher.records.runs import Runs

    gc.disable()  # ten thousand small values and then the end: looking for garbage takes a third of the time
    reach = access.of(place)
    store, problem = (None, None) if offline else opened(place)
    with Runs(reach.url, store, index_of(reach.url, reach.settings)) as runs:
        if store is not None and not_there(store) and not refresh and runs.as_of is not None and runs.known():
            problem = StoreError(f"there is no store at {reach.url} any more")  # and not just none yet
        elif store is not None:
            problem = asked(runs, refresh, about)
        if not runs.fresh:
            tell_stale(runs, problem)
        for text in [*runs.wrong[:MOST_WRONG], *([f"and {len(runs.wrong)} in all"] * (len(runs.wrong) > MOST_WRONG))]:
            click.echo(f"warning: {text}", err=True)
        yield runs
        runs.leave_snapshot()


def opened(place: str | None) -> tuple[Store | None, StoreError | None]:
    """Open a store; where it isn't there at all, return why."""
    from launcher import access

    try:
        return access.open_to_read(place), None
    except AccessError:
        raise
    except StoreError as e:
        return None, e


def not_there(store: Store) -> bool:
    """Tell whether a store stands for the machine's default folder, which nobody made yet."""
    return store.folder is None and folder_of(store.url) is not None


def index_of(url: str, settings: dict[str, str]) -> Path | None:
    """Return the folder of a store's index; None for a store in memory."""
    from launcher.cache import default_root
    from launcher.records.index import place

    return (
        None
        if url.startswith("memory:")
        else place(default_root(), url, {name: settings.get(name) for name in ("endpoint", "account")})
    )


def asked(runs: Runs, refresh: bool, about: Collection[str]) -> StoreError | None:
    """Bring the runs up to date; return why that can't be now."""
    from launcher.cli.progress import choose_progress

    try:
        runs.update(refresh=refresh, about=about, progress=choose_progress())
    except UnreachableError as e:
        return e
    return None


def tell_stale(runs: Runs, problem: StoreError | None) -> None:
    """Say as of when things are. Raises the problem, or UsageError, when nothing is known at all."""
    from launcher.runner.clock import stamp

    if runs.as_of is None:
        raise problem or UsageError(f"nothing is known here of {runs.url}", hint="leave `--offline` out once")
    then = stamp(int(runs.as_of * 1e9))
    when = f"{then[:10]} {then[11:19]} UTC, {age(then)}"
    why = f"warning: {problem.problems[0].message}\n" if problem else ""
    click.echo(f"{why}as of {when}; what had not ended then is told as unknown", err=True)


def chosen(store: Store, place: str | None, run: str | None) -> str:
    """Return the run that a beginning names, or the newest one without; of a bucket, by the index of this machine.

    Raises UsageError when it isn't exactly one.
    """
    from launcher import records
    from launcher.store import keys

    if run and RUN_ID.fullmatch(run) and store.exists(keys.job(run)):
        return run
    if store.folder is not None or not_there(store):
        return records.find(store, run)
    with listed(place) as runs:
        return runs.find(run)
