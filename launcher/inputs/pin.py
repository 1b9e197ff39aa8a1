"""Pin inputs: a file by its sha256, a tree by its tree digest. What is remote is read once, onto this node's shelf."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

from launcher.cache import Cache
from launcher.errors import IntegrityError, LauncherError, Problem, SpecError
from launcher.inputs import room
from launcher.inputs.gather import EnoughError, Inbox
from launcher.inputs.items import Item, digest_of, shown
from launcher.inputs.memo import Memo
from launcher.inputs.places import Here, place_of
from launcher.inputs.shelf import Shelf
from launcher.inputs.source import Source
from launcher.inputs.web import Web
from launcher.lock.model import DataPin
from launcher.progress import SILENT, Progress
from launcher.spec.model import DataSpec


def pin(data: DataSpec, cache: Cache, progress: Progress = SILENT) -> DataPin:
    """Digest one input. Modes, times and empty folders don't count; links count by where they point.

    Raises SpecError when it can't be read or changes meanwhile, IntegrityError when it isn't what the spec's sha256 or
    a `.dvc` file says, StoreError and FetchError when its source fails or hasn't got it, DiskFullError.
    """
    if found := staged(data, cache):
        return found
    place = place_of(data)
    items = place.items(cache, progress) if isinstance(place, Here) else read(place, data.name, cache, progress)
    made = pin_of(data.name, "tree" if place.kind == "tree" else "file", items)
    if data.sha256 not in (None, made.sha256):
        raise IntegrityError(
            f"data `{data.name}`: {place.name} has sha256 {made.sha256}, and the spec says {data.sha256}",
            hint="put the right data there, or correct the spec",
        )
    if made.kind == "tree":
        with contextlib.suppress(LauncherError):  # local data need no folder of inputs
            Shelf.of(cache).note_list(made.sha256, items)
    return made


def pin_of(name: str, kind: Literal["file", "tree"], items: Sequence[Item]) -> DataPin:
    size = sum(item.size for item in items if item.target is None)
    return DataPin(name=name, kind=kind, size=size, sha256=digest_of(items))


def staged(data: DataSpec, cache: Cache) -> DataPin | None:
    """Return the pin of remote data that the spec knows by sha256 and this node has: then nobody is asked."""
    if data.sha256 is None or data.url is None or not (held := (shelf := Shelf.of(cache)).find(data.sha256)):
        return None
    held.release()
    about = shelf.about(data.sha256) or {}
    return DataPin(name=data.name, kind=about["kind"], size=about["size"], sha256=data.sha256)


def read(source: Source, name: str, cache: Cache, progress: Progress = SILENT) -> list[Item]:
    """Return a source's files with their digests; those that this machine doesn't know yet are fetched."""
    memo = Memo(cache, source.identity)
    items = memo.fill(source.items())
    if all(item.sha256 for item in items):
        return items
    shelf = Shelf.of(cache)
    with shelf.alone(f"url-{memo.key}", f"data `{name}`", progress):
        memo = Memo(cache, source.identity)  # whom we waited for has read it
        items = memo.fill(items)
        if unknown := [item for item in items if item.sha256 is None]:
            found = fetch(source, unknown, name, memo, shelf, progress)
            memo.write(item.name for item in items)
            items = [found.get(item.name, item) for item in items]
    return items


def fetch(
    source: Source, unknown: Sequence[Item], name: str, memo: Memo, shelf: Shelf, progress: Progress
) -> dict[str, Item]:
    """Bring files whose digest nobody knows. Raises SpecError when they change meanwhile."""
    weight = source.weight(unknown)
    room.make(shelf, weight, f"data `{name}`", progress)
    with shelf.gathering(), progress.task(f"read data {name}", weight or None) as task:
        inbox = Inbox(shelf, task, came=memo.learn)
        try:
            with contextlib.suppress(EnoughError):
                source.bring(unknown, inbox)
        except BaseException:
            memo.write()
            raise
    if inbox.wrong:
        raise IntegrityError.of(other(name, source, item, came) for item, came in inbox.wrong)
    if not isinstance(source, Web):  # which looks at each answer itself
        refuse_moving(source, unknown, name)
    if lost := [item for item in unknown if item.name not in inbox.found]:
        raise SpecError(f"data `{name}`: {shown(lost[0].name)} did not come from {source.name}")
    return inbox.found


def refuse_moving(source: Source, read: Sequence[Item], name: str) -> None:
    """Raise SpecError when a file was written while it was read: its digest may be that of neither version."""
    marks = {item.name: item.mark for item in source.items()}
    if moved := [item for item in read if item.mark and marks.get(item.name) != item.mark]:
        hint = "lock again when nothing writes to it"
        raise SpecError(f"data `{name}`: {shown(moved[0].name)} of {source.name} changed while it was read", hint=hint)


def other(name: str, source: Source, item: Item, came: Item) -> Problem:
    """Say that a file came otherwise than it was listed."""
    what = f"data `{name}`: {shown(item.name)} of {source.name}"
    if item.md5:
        return Problem(message=f"{what} has md5 {came.md5}, and {item.md5} is pinned", hint="is the cache damaged?")
    hint = "lock again when nothing writes to it"
    return Problem(message=f"{what} changed while it was read ({item.size} bytes, then {came.size})", hint=hint)
