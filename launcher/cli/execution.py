"""What `run` and `rerun` share: from a job with everything at hand to its end, told and recorded."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import access, records, target, vault
from launcher.cli.output import print_json
from launcher.cli.progress import choose_progress
from launcher.cli.settings import settings
from launcher.errors import LauncherError, ObjectExistsError, StoreError, TargetError
from launcher.hearing import heard
from launcher.job import ENTROPY_BYTES
from launcher.store import default_url, folder_of
from launcher.target import architecture
from launcher.target.model import StillRunning

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.job import Job
    from launcher.records import Record
    from launcher.store.access import Access
    from launcher.store.objects import Store
    from launcher.target.model import Process, Work

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 2  # so many interrupts are passed on; the next one kills
UNSEEN_FROM = 125  # exit codes from here on may come from something that died before it could tell the store


def moment() -> tuple[datetime, bytes]:
    """Return what makes a run id."""
    return datetime.now(timezone.utc), secrets.token_bytes(ENTROPY_BYTES)


def open_store(place: str | None) -> tuple[Store, Access]:
    """Open a store, and return how runs of this machine reach it too. Raises StoreError."""
    return access.open(place), access.of(place)


def store_folder(found: Access) -> list[Path]:
    """Return the folder of a store that is one: a snapshot of the code passes over it."""
    folder = folder_of(found.url)
    return [Path(folder)] if folder else []


def keep(opened: Store, key: str, data: bytes | Path) -> None:
    """Put something known by its digest into the store, once."""
    if opened.exists(key):
        return
    with contextlib.suppress(ObjectExistsError):
        if isinstance(data, Path):
            opened.put_file(key, data)
        else:
            opened.create(key, data)


def execute(
    work: Work,
    opened: Store,
    cache: Cache,
    *,
    runtime: str | None,
    facts: Mapping[str, object] | None,
    as_json: bool,
) -> int:
    """Submit, run to the end, tell how it went. Return the command's exit code.

    Raises StillRunning, with nothing said in the store, when another attempt of the run is under way.
    """
    architecture.refuse(architecture.of(work.image))
    local = target.open("local", cache, runtime=runtime)
    run, attempt = work.job.run, work.attempt
    local.claim(run)
    work = replace(work, seen_dead=attempt > 1 and local.last_attempt(run) == attempt - 1)
    if not records.submit(opened, work.job_json(), code=facts, attempt=attempt):
        raise TargetError(
            f"somebody else has begun attempt {attempt} of {run}",
            hint=f"`launcher logs -f {run}{named_store(opened)}` follows it",
        )
    try:
        with contextlib.suppress(StoreError):  # a hiccup now is no reason not to run
            vault.stay(artifacts(work.job, work.code, cache, facts), opened, choose_progress())
        with passing_on() as going, stdout_for_json(as_json):
            process = local.start(work)
            going.follow(process)
            if work.seen_dead:  # of one that ran elsewhere nobody here knows; its claim on the run decides
                records.end_for_dead(opened, run, attempt - 1, "the launcher that ran it was killed")
            ending = process.wait()
    except StillRunning:
        records.withdraw(opened, run, attempt)
        raise
    except BaseException as e:
        why = str(e).partition("\n")[0] or "it was interrupted"
        records.end_for_dead(opened, run, attempt, f"it could not be started: {why}")
        raise
    if attempt > 1 and ending.exit_code >= UNSEEN_FROM and records.never_began(opened, run, attempt):
        records.withdraw(opened, run, attempt)  # the one before goes on, or has succeeded meanwhile
        told = f"`launcher show {run}` tells of the one before, which this one has not touched"
        raise TargetError(f"attempt {attempt} of {run} did not begin", hint=told)
    if ending.exit_code >= UNSEEN_FROM or ending.lost:
        name = signal.Signals(ending.signal).name if ending.signal else None
        seen = f"it was killed at the interrupt number {PATIENCE + 1}" if going.killed else ending.lost
        records.end_for_dead(opened, run, attempt, seen or f"the runner ended: {ending}", signal=name)
    try:
        record = records.load(opened, run)
    except LauncherError as e:
        rest = f"when the store is back `launcher run --resume {run}` goes on from what is in {local.folder(run)}"
        raise StoreError(f"{run} ended ({ending}), and its record can't be read: {e}", hint=rest) from e
    if record.complete:
        process.discard()
    report(record, local.folder(run), named_store(opened), as_json)
    return ending.exit_code


def artifacts(job: Job, code: Path, cache: Cache, facts: Mapping[str, object] | None) -> dict[str, Path]:
    """Return the artifacts that only this run names: its code, and the patch of that where this machine has it."""
    patch = cache.find("artifacts", str(facts["patch"])) if facts and facts.get("patch") else None
    return {job.code: code, **({patch.name: patch} if patch else {})}


@contextlib.contextmanager
def stdout_for_json(as_json: bool) -> Iterator[None]:
    """Send what the command prints to stderr, so that stdout holds the record and nothing that is no JSON."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def named_store(opened: Store) -> str:
    """Return what a command has to say to find a store: nothing for the machine's default one."""
    return "" if opened.url == default_url() else f" --store {shlex.quote(opened.url)}"


def report(record: Record, folder: Path | str, store: str, as_json: bool, resume: str = "") -> None:
    """Say in one line on stderr what came of it, where the rest is, and what to type next."""
    if as_json:
        print_json(record)
    if settings().quiet:
        return
    reason = f" ({record.reason})" if record.reason and record.state != "succeeded" else ""
    again = record.state in ("killed", "unknown") and bool(record.checkpoints)
    follow = (resume or f"launcher run --resume {record.run}") if again else f"launcher show {record.run}"
    whole = (
        "" if record.complete or not record.missing else f"; not everything is in the store, the rest is in {folder}"
    )
    sys.stderr.write(f"{record.run}: {record.state}{reason}{whole}; next: {follow}{store}\n")


class Going:
    """Where signals go: nowhere yet, or to the process."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.early: list[int] = []
        self.interrupts = 0
        self.killed = False

    def take(self, number: int, frame: object) -> None:
        """Pass a signal on; when interrupts have been passed on in vain, kill."""
        if self.process is None:
            self.early.append(number)
            if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                raise KeyboardInterrupt
            return
        if number == signal.SIGINT:
            self.interrupts += 1
            self.tell_patience()
        self.killed = self.interrupts > PATIENCE
        self.process.signal(signal.SIGKILL if self.killed else number)

    def tell_patience(self) -> None:
        """Say to a person what became of the first Ctrl-C; written at once, since this runs in a signal handler."""
        if self.interrupts == 1 and not settings().quiet and sys.stderr.isatty():
            with contextlib.suppress(OSError):
                os.write(2, b"\r\nthe command was asked to stop; Ctrl-C once more kills it\r\n")

    def follow(self, process: Process) -> None:
        self.process = process


@contextlib.contextmanager
def passing_on() -> Iterator[Going]:
    """Pass signals on for as long as the context lasts."""
    going = Going()
    before = {number: signal.signal(number, going.take) for number in FORWARDED}
    try:
        with heard():
            yield going
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
