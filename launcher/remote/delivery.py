"""Bring to a site what it lacks, and nothing else: one round trip to see what is there, one transfer for the rest."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import disk_full
from launcher.errors import DiskFullError, LauncherError, TargetError
from launcher.progress import SILENT, Progress, Task
from launcher.remote import receiving
from launcher.remote.contact import Site, contact, program
from launcher.remote.differences import against
from launcher.remote.here import Here
from launcher.remote.items import Item
from launcher.remote.model import Shell
from launcher.remote.persistence import Counting, through_cuts
from launcher.remote.sending import begun, chunks_of, frames

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.profiles.model import Profile
    from launcher.profiles.places import Places

FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM = "free some there: `images`, `blobs` and `inputs` may go when no sweep needs them; nothing half was kept"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What is to be there in the end: items, in the order in which they get their names, and what is run after them."""

    items: tuple[Item, ...] = ()
    runs: tuple[tuple[str, ...], ...] = ()  # `{tools}` and `{shared}` stand for what the site says
    unless: tuple[str, ...] = ()  # relative paths: where all of them are there, nothing has to be run


def prepare(
    shell: Shell,
    profile: Profile,
    deliveries: Sequence[Delivery],
    cache: Cache,
    progress: Progress = SILENT,
) -> tuple[Site, str]:
    """Bring launcher itself and what else is missing to a site; return its facts and the folder of its tools.

    Two round trips, one where nothing is missing. Where the way is lost meanwhile it goes on as soon as there is one.
    Raises TargetError, DiskFullError when the shared folder is full, and what the making of a tool raises (FetchError).
    """
    counted = Counting(progress)
    return through_cuts(
        lambda: prepare_once(shell, profile, deliveries, cache, counted), progress, lambda: counted.moved
    )


def prepare_once(
    shell: Shell, profile: Profile, deliveries: Sequence[Delivery], cache: Cache, progress: Progress
) -> tuple[Site, str]:
    from launcher.remote.tools import tools

    wanted = {path for one in deliveries for path in [*one.unless, *paths(one.items)]}
    site = contact(shell, profile, sorted(wanted))
    own = tools(site, cache, progress)
    folder = f"{site.shared}/{own.path}"
    items = [own, *(item for one in deliveries for item in one.items)]
    runs = [run for one in deliveries if lacking(one.unless, site) for run in one.runs]
    words = [[word.format(tools=folder, shared=site.shared) for word in run] for run in runs]
    send(shell, profile, site, missing(items, site), words, progress, compiled=own.path)
    return site, folder


def deliver(
    shell: Shell,
    places: Places,
    items: Sequence[Item],
    progress: Progress = SILENT,
    *,
    profile: Profile | None = None,
) -> None:
    """Bring what is missing of `items` to a shared folder, as `prepare` does, without the tools.

    Without a profile Python is what `python3` is there.
    """
    from launcher.profiles.model import Profile

    told = replace(profile or Profile(name=shell.where), shared=str(places.shared))
    counted = Counting(progress)

    def once() -> None:
        site = contact(shell, told, sorted(paths(items)))
        send(shell, told, site, missing(items, site), [], counted)

    through_cuts(once, progress, lambda: counted.moved)


def paths(items: Iterable[Item]) -> Iterator[str]:
    for item in items:
        yield item.path
        yield from item.unless
        yield from (base.path for base in item.bases)


def lacking(wanted: Sequence[str], site: Site) -> bool:
    """Tell whether any of these paths is missing; with none named, something is."""
    return not wanted or not site.there.issuperset(wanted)


def missing(items: Iterable[Item], site: Site) -> list[Item]:
    """Return what has to be sent."""
    return [
        item
        for item in items
        if item.replace or (item.path not in site.there and not (item.unless and site.there.issuperset(item.unless)))
    ]


def send(
    shell: Shell,
    profile: Profile,
    site: Site,
    items: Sequence[Item],
    runs: Sequence[Sequence[str]],
    progress: Progress,
    compiled: str | None = None,
) -> None:
    """Send items in one stream, and run what is to be run after them. Raises TargetError, DiskFullError."""
    if not items and not runs:
        return
    items = items if isinstance(shell, Here) else [against(item, site.there) for item in items]
    room = sum(item.size - begun(item, site.parts) for item in items)
    if site.free_bytes is not None and room > site.free_bytes:
        raise full(site, f"{room} bytes are to be sent, and {site.free_bytes} are free")
    travels = sum(item.travels(begun(item, site.parts)) for item in items)
    with progress.task(f"send to {site.where}", travels) as task:
        if isinstance(shell, Here):
            items = put_here(items, site.shared, task)
        if items or runs:
            stream = frames(items, runs, compiled, task, site.parts)
            done = shell.run(program(profile, receiving, site.shared), stdin=stream)
            if spoiled := judge(site, done.stdout, done.stderr, done.code):
                [at] = [number for number, item in enumerate(items) if item.path == spoiled]
                whole = [replace(item, bases=(), base="", steps=()) for item in items[at:]]
                parts = {name: size for name, size in site.parts.items() if name != items[at].part}  # spoiled, too
                send(shell, profile, replace(site, parts=parts), whole, runs, progress, compiled)


def put_here(items: Sequence[Item], shared: str, task: Task) -> list[Item]:
    """Put files into place, by a hard link where the file system is the same; return the rest, from a tree on."""
    left = list(items)
    with disk_full(nearest(Path(shared)), ROOM):
        while left and not left[0].tree:
            item = left.pop(0)
            with receiving.incoming(shared) as folder:
                new = Path(folder, "new")
                copy(item, new)
                receiving.place(str(new), f"{shared}/{item.path}", item.replace)
            task.advance(item.size)
    return left


def nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def copy(item: Item, new: Path) -> None:
    """Link a file of the cache, which is never written to again, or write it anew."""
    source = item.source
    if isinstance(source, Path) and not item.replace:
        with suppress(OSError):
            if source.stat().st_mode & 0o777 == item.mode:
                os.link(source, new)
                return
    receiving.write(str(new), chunks_of(source), item.mode)


def judge(site: Site, said: bytes, complained: bytes, code: int) -> str:
    """Read the receiver's answer; return the path of what has to come whole, since what it was to be made from is not
    what it should be, and "" otherwise. Raises TargetError or DiskFullError when not everything is in place."""
    _, mark, answer = said.rpartition(receiving.MARK.encode())
    if not mark:
        last = complained.decode(errors="replace").strip()[-1000:]
        raise TargetError(
            f"{site.where} took nothing (exit code {code}): {last}", hint="the same again goes on from there"
        )
    told = json.loads(answer)
    if "done" in told or "whole" in told:
        return str(told.get("whole", ""))
    if told.get("cut"):
        raise TargetError(f"the transfer to {site.where} was cut", hint="the same again sends what is still missing")
    if told["errno"] in FULL:
        raise full(site, told["message"])
    raise TargetError(f"{site.where} could not keep what was sent: {told['message']}")


def full(site: Site, why: str) -> LauncherError:
    return DiskFullError(
        f"no room in {site.shared} on {site.where}: {why}",
        hint=ROOM,
    )
