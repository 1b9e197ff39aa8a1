"""Bytes on their way to this node's shelf: many small files at once, big ones in parallel ranges, each checked."""

from __future__ import annotations

import hashlib
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from launcher.cache import disk_full
from launcher.digest import CHUNK_BYTES
from launcher.errors import IntegrityError, ObjectMissingError, UnreachableError
from launcher.inputs import pieces
from launcher.inputs.items import Item
from launcher.inputs.shelf import FULL, Shelf
from launcher.progress import Task
from launcher.store.objects import Store

SMALL_BYTES = 1 << 20  # files up to here are fetched whole, many at once; bounds the memory of that
AT_ONCE = 2  # big files; each comes in parallel ranges itself
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # after failures in a row
WRONG_AT_MOST = 10  # then it is clear that the source changed: the rest isn't fetched


class EnoughError(Exception):
    """So many files are other than they should be that no more are fetched."""


class Inbox:
    """Takes files in, checks them, and puts them on the shelf; remembers what came, and what was wrong.

    Threads may share it. `came` hears of every file that was taken.
    """

    def __init__(self, shelf: Shelf, task: Task, came: Callable[[Item], object] = lambda item: None) -> None:
        self.shelf, self.task, self.came = shelf, task, came
        self.found: dict[str, Item] = {}  # by name, with sha256 and size
        self.wrong: list[tuple[Item, Item]] = []  # what should have come, what came
        self.missing: list[Item] = []
        self.guard = threading.Lock()

    def scratch(self) -> Path:
        """Return a new place on the shelf's file system."""
        return self.shelf.part(f"new-{secrets.token_hex(8)}")

    def take_bytes(self, item: Item, data: bytes) -> None:
        """Take a file that is in memory."""
        scratch = self.scratch()
        try:
            with disk_full(self.shelf.root, FULL):
                scratch.write_bytes(data)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() if item.md5 else None
            self.take(item, scratch, hashlib.sha256(data).hexdigest(), md5, len(data))
        finally:
            scratch.unlink(missing_ok=True)

    def take_file(self, item: Item, scratch: Path, sha256: str | None = None) -> None:
        """Take a file of the shelf's file system; it is hashed unless the caller says what was checked already."""
        size = scratch.stat().st_size
        if sha256 is None or item.md5:
            sha256, md5 = hashed(scratch, with_md5=bool(item.md5))
        else:
            md5 = None
        self.take(item, scratch, sha256, md5, size)

    def take(self, item: Item, scratch: Path, sha256: str, md5: str | None, size: int) -> None:
        """Put a file on the shelf if it is the right one. Raises EnoughError when too many weren't."""
        came = Item(name=item.name, size=size, key=item.key, mark=item.mark, sha256=sha256, md5=md5)
        if wrong(item, came, scratch):
            self.refuse(item, came)
            return
        self.shelf.keep(scratch, sha256)
        with self.guard:
            self.found[item.name] = came
        self.came(came)

    def settled(self, item: Item) -> bool:
        """Tell whether it is known what became of an item."""
        return item.name in self.found or item in self.missing or any(item == asked for asked, _ in self.wrong)

    def refuse(self, item: Item, came: Item) -> None:
        """Note that another file came than should have. Raises EnoughError after the tenth."""
        with self.guard:
            self.wrong.append((item, came))
            if len(self.wrong) >= WRONG_AT_MOST:
                raise EnoughError


def wrong(item: Item, came: Item, path: Path) -> bool:
    if item.size and item.size != came.size:
        return True
    return item.sha256 not in (None, came.sha256) or bool(item.md5 and not same_md5(item.md5, came.md5, path))


def hashed(path: Path, *, with_md5: bool) -> tuple[str, str | None]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False) if with_md5 else None
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            if md5:
                md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest() if md5 else None


def same_md5(wanted: str, md5: str | None, path: Path) -> bool:
    """Compare with a pin of DVC. Before version 3 it hashed texts with Unix line ends (`md5-dos2unix`)."""
    if wanted.removeprefix("dos2unix:") == md5:
        return True
    return wanted.startswith("dos2unix:") and wanted.removeprefix("dos2unix:") == unix_md5(path)


def unix_md5(path: Path) -> str:
    """Hash a text as if its lines ended as on Unix, piece by piece as DVC does."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk.replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def from_store(store: Store, items: Sequence[Item], inbox: Inbox) -> None:
    """Bring items by their keys. One that is not there is told in `inbox.missing`.

    A store that doesn't answer is asked again for what is left, for a minute or two without any progress. Raises
    StoreError.
    """
    left, failures = list(items), 0
    while left:
        try:
            go_through(store, left, inbox)
            left = []
        except UnreachableError:
            before, left = len(left), [item for item in left if not inbox.settled(item)]
            failures = 0 if len(left) < before else failures + 1
            if failures >= len(PAUSES_S):
                raise
            time.sleep(PAUSES_S[failures] * random.uniform(0.5, 1.0))


def go_through(store: Store, items: Sequence[Item], inbox: Inbox) -> None:
    with_small(store, [item for item in items if item.size <= SMALL_BYTES], inbox)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        big = sorted((item for item in items if item.size > SMALL_BYTES), key=lambda item: -item.size)
        for _ in pool.map(lambda item: bring_big(store, item, inbox), big):
            pass


def with_small(store: Store, items: Sequence[Item], inbox: Inbox) -> None:
    wanted: dict[str, list[Item]] = {}
    for item in items:
        wanted.setdefault(item.key, []).append(item)
    for key, data in store.get_many(wanted):
        if data is None:
            inbox.missing += wanted[key]
            continue
        inbox.task.advance(len(data) * len(wanted[key]))
        for item in wanted[key]:
            inbox.take_bytes(item, data)


def bring_big(store: Store, item: Item, inbox: Inbox) -> None:
    if item.size >= pieces.FROM_BYTES and item.mark:
        with pieces.grown(store, item, inbox.shelf, inbox.task) as whole:
            inbox.take_file(item, whole)
        return
    scratch = inbox.scratch()
    try:
        with disk_full(inbox.shelf.root, FULL):
            store.get_file(item.key, scratch, sha256=item.sha256, moved=inbox.task.advance)
        inbox.take_file(item, scratch, item.sha256)
    except IntegrityError:
        inbox.refuse(item, replace(item, sha256=None))
    except ObjectMissingError:
        inbox.missing.append(item)
    finally:
        scratch.unlink(missing_ok=True)


def once(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, those of the same known content once."""
    seen: set[str] = set()
    for item in items:
        if item.sha256 is None or item.sha256 not in seen:
            yield item
        if item.sha256:
            seen.add(item.sha256)
