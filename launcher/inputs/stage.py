"""Stage inputs on this node: from its shelf, from the store, or from the source, by digest and never by faith."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError, LauncherError, ObjectMissingError, Problem
from launcher.inputs import room
from launcher.inputs.assemble import assemble
from launcher.inputs.gather import EnoughError, Inbox, from_store, once
from launcher.inputs.items import Item, changes, digest_of, from_json, same_bytes, shortened, shown
from launcher.inputs.memo import Memo
from launcher.inputs.pin import read
from launcher.inputs.places import Here, place_of
from launcher.inputs.shelf import Held, Shelf, noted_list
from launcher.inputs.source import Source
from launcher.lock.model import DataPin
from launcher.progress import SILENT, Progress
from launcher.spec.model import DataSpec
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.store.objects import Store

Origin = Literal["place", "cache", "store", "source"]
TRIES = 20  # to make an entry whose contents another process removes meanwhile
CHANGED = "put the data back, or `launcher lock` takes it as it is now"
NOWHERE = "`launcher data add SPEC`, where the data is, puts it into the store; or say where it is: --data {}=PATH"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """An input at hand, and where it came from. `held` keeps it on the shelf; None when it lies elsewhere."""

    name: str
    path: Path
    origin: Origin
    held: Held | None = None


def stage(
    pin: DataPin, source: DataSpec | None, cache: Cache, *, store: Store | None = None, progress: Progress = SILENT
) -> Staged:
    """Return where an input lies on this node, brought here if need be. A local file or folder is used where it is.

    It stays as long as `Staged.held` is, or this process lives. Raises IntegrityError with what changed when the
    source isn't what `pin` says, FetchError when it is nowhere, DiskFullError before anything is fetched.
    """
    place = place_of(source) if source else None
    if isinstance(place, Here) and place.path.exists():
        items = place.items(cache, progress)
        if digest_of(items) != pin.sha256:
            raise changed(pin, place.name, noted_list(cache, pin.sha256), items)
        return Staged(name=pin.name, path=place.path.resolve(), origin="place")
    remote = None if isinstance(place, Here) else place
    return Staging(pin, remote, Shelf.of(cache), cache, store, progress).run()


class Staging:
    """One input on its way to the shelf."""

    def __init__(
        self, pin: DataPin, source: Source | None, shelf: Shelf, cache: Cache, store: Store | None, progress: Progress
    ) -> None:
        self.pin, self.source, self.shelf, self.cache = pin, source, shelf, cache
        self.store, self.progress = store, progress
        self.what = f"data `{pin.name}`"
        self.failures: list[Problem] = []
        self.gathered = contextlib.ExitStack()

    def run(self) -> Staged:
        """Return the entry, made if need be. One process of the node makes it, the others wait."""
        origin: Origin = "cache"
        for _ in range(TRIES):
            if held := self.shelf.find(self.pin.sha256):
                return Staged(name=self.pin.name, path=held.path, origin=origin, held=held)
            with self.shelf.alone(self.pin.sha256, self.what, self.progress), self.gathered:
                origin = self.make()
        raise IntegrityError(
            f"{self.what}: {self.shelf.root} doesn't keep what is put there", hint="is its disk sound?"
        )

    def make(self) -> Origin:
        """Bring what the shelf lacks, and make the entry; return where the bytes came from."""
        origin: Origin = "cache"
        with contextlib.suppress(FileNotFoundError):  # removed by another process: once more
            items = self.listed()
            if self.lacking(items) or items is None:
                items, origin = self.from_store(items)
            if self.lacking(items) or items is None:
                items, origin = self.from_source(items)
            assemble(self.shelf, self.pin, items)
        return origin

    def listed(self) -> list[Item] | None:
        """Return the files as far as they are known without asking anybody."""
        if self.pin.kind == "file":
            return [Item(name="", size=self.pin.size, sha256=self.pin.sha256)]
        return self.shelf.listed(self.pin.sha256)

    def lacking(self, items: Sequence[Item] | None) -> list[Item]:
        """Return the files whose content isn't on the shelf, each content once."""
        found = [item for item in items or () if item.target is None and not self.shelf.has(item)]
        return list(once(found))

    def from_store(self, items: list[Item] | None) -> tuple[list[Item] | None, Origin]:
        """Bring what the store has. What it lacks or has damaged is left for the source."""
        if self.store is None:
            return items, "cache"
        try:
            items = self.store_list(self.store) or items
            asked = [replace(item, key=keys.artifact(str(item.sha256))) for item in self.lacking(items)]
            inbox = self.bring(asked, sum(item.size for item in asked), self.store.url, self.fill_from(self.store))
        except LauncherError as e:
            if e.exit_code == 73:
                raise
            self.failures += e.problems
            return items, "cache"
        if items and self.lacking(items) and not inbox.missing and not inbox.wrong:
            raise FileNotFoundError("removed meanwhile")
        return items, "store"

    def fill_from(self, store: Store) -> Callable[[Sequence[Item], Inbox], None]:
        return lambda asked, inbox: from_store(store, asked, inbox)

    def store_list(self, store: Store) -> list[Item] | None:
        """Return the list of files that the store has of this input; None when it was never put there."""
        try:
            return from_json(store.get(keys.inputs(self.pin.sha256)), self.pin.sha256, store.url)
        except ObjectMissingError:
            self.failures.append(Problem(message=f"{store.url} hasn't got it"))
            return None

    def bring(
        self, asked: Sequence[Item], weight: int, place: str, fill: Callable[[Sequence[Item], Inbox], None]
    ) -> Inbox:
        """Fetch files whose digests are known; tell of those that came otherwise."""
        room.make(self.shelf, weight, self.what, self.progress)
        self.gathered.enter_context(self.shelf.gathering())
        with self.progress.task(f"bring data {self.pin.name}", weight or None) as task:
            inbox = Inbox(self.shelf, task)
            with contextlib.suppress(EnoughError):
                fill(asked, inbox)
            if inbox.wrong:  # in the place, or on the way?
                once_more = [item for item, _ in inbox.wrong]
                inbox = Inbox(self.shelf, task)
                with contextlib.suppress(EnoughError):
                    fill(once_more, inbox)
        for item, _ in inbox.wrong:
            self.failures.append(Problem(message=f"{place} has other bytes under {item.key or shown(item.name)}"))
        return inbox

    def from_source(self, items: list[Item] | None) -> tuple[list[Item], Origin]:
        """Bring the rest from the source, after a look at whether it is still what was locked."""
        if self.source is None:
            raise self.nowhere()
        try:
            now = Memo(self.cache, self.source.identity).fill(self.source.items())
            if items is None:
                now = read(self.source, self.pin.name, self.cache, self.progress)
                if digest_of(now) != self.pin.sha256:
                    raise changed(self.pin, self.source.name, None, now)
            elif lines := changes(items, now, same_as_told):
                raise refusal(self.pin, self.source.name, lines)
            whole = items or now
            self.rest(whole, {item.name: item for item in now})
        except LauncherError as e:
            e.problems = (*e.problems, *self.failures)
            e.args = (str(e),)
            raise
        return whole, "source"

    def rest(self, whole: Sequence[Item], now: dict[str, Item]) -> None:
        """Fetch what the shelf lacks. Raises IntegrityError with every file that isn't what was locked."""
        assert self.source is not None
        asked = [replace(now[item.name], sha256=item.sha256) for item in self.lacking(whole)]
        inbox = self.bring(asked, self.source.weight(asked), self.source.name, self.source.bring)
        if inbox.wrong:
            lines = [f"changed: {shown(item.name)}" for item, _ in inbox.wrong]
            raise refusal(self.pin, self.source.name, lines)

    def nowhere(self) -> FetchError:
        looked = "".join(f"\n  {problem.message}" for problem in self.failures)
        return FetchError(
            f"{self.what} ({self.pin.sha256[:12]}...) is not on this node, and nobody says where it is{looked}",
            hint=NOWHERE.format(self.pin.name),
        )


def same_as_told(locked: Item, now: Item) -> bool:
    """Compare with a listing that knows the digests of those files only that this machine has read."""
    if now.sha256 is not None or now.target is not None:
        return same_bytes(locked, now)
    return locked.target is None and now.size in (0, locked.size)


def changed(pin: DataPin, place: str, before: Sequence[Item] | None, now: Sequence[Item]) -> IntegrityError:
    """Say that a source isn't what was locked, and file by file what changed, if anybody noted the files."""
    if before is None:
        said = f"its digest is {digest_of(now)}" + (
            "; which files changed can't be told: nobody noted them here when it was locked" if len(now) > 1 else ""
        )
        return refusal(pin, place, [said])
    return refusal(pin, place, changes(before, now, same_bytes))


def refusal(pin: DataPin, place: str, lines: list[str]) -> IntegrityError:
    told = "".join(f"\n  {line}" for line in shortened(lines))
    return IntegrityError(f"data `{pin.name}`: {place} is not what was locked ({pin.sha256}):{told}", hint=CHANGED)
