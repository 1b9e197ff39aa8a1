"""Put inputs into a store, for other machines: contents by sha256 among the artifacts, the list of files last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import Cache, fingerprint
from launcher.digest import sha256_bytes
from launcher.errors import IntegrityError, ObjectMissingError
from launcher.inputs.gather import SMALL_BYTES, hashed, once
from launcher.inputs.items import Item, digest_of, to_json
from launcher.inputs.local import AS_A_RUN
from launcher.inputs.places import Here, place_of
from launcher.inputs.shelf import Shelf
from launcher.inputs.stage import Staged
from launcher.lock.model import DataPin
from launcher.progress import SILENT, Progress, Task
from launcher.spec.model import DataSpec
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.store.objects import Store

ASKED_AT_ONCE = 32
LISTED_FROM = 2000  # files: from here on one listing of the store is quicker than a question for each
BIG_AT_ONCE = 2  # each goes out in parallel parts itself


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What `add` did: contents that were sent, that were there, and the bytes that went out."""

    name: str
    sha256: str
    sent: int
    present: int
    bytes: int


def add(
    pin: DataPin, staged: Staged, data: DataSpec, cache: Cache, store: Store, progress: Progress = SILENT
) -> Shared:
    """Put a staged input into a store, what is there already left out. After a kill the next call goes on.

    Raises IntegrityError when a local file changed since it was read, StoreError.
    """
    items = items_of(pin, staged, data, cache, progress)
    contents = list(once(item for item in items if item.target is None))
    missing = lacking(store, contents)
    size = sum(item.size for item in missing)
    with progress.task(f"send data {pin.name}", size) as task:
        send(store, staged.path, missing, task, sealed=staged.held is not None)
    key = keys.inputs(pin.sha256)
    if missing or not store.exists(key):
        store.put(key, to_json(items))
    return Shared(name=pin.name, sha256=pin.sha256, sent=len(missing), present=len(contents) - len(missing), bytes=size)


def items_of(pin: DataPin, staged: Staged, data: DataSpec, cache: Cache, progress: Progress) -> Sequence[Item]:
    """Return the files of a staged input."""
    if pin.kind == "file":
        return [Item(name="", size=pin.size, sha256=pin.sha256)]
    if listed := Shelf.of(cache).listed(pin.sha256):
        return listed
    place = place_of(data)
    items = place.items(cache, progress) if isinstance(place, Here) else []
    if digest_of(items) != pin.sha256:
        raise IntegrityError(f"data `{pin.name}`: {staged.path} changed while it was read", hint=AS_A_RUN)
    return items


def lacking(store: Store, items: Sequence[Item]) -> list[Item]:
    """Return the contents that the store hasn't got whole."""
    if len(items) >= LISTED_FROM:
        sizes = {entry.key: entry.size for entry in store.list("artifacts/sha256/")}
        return [item for item in items if sizes.get(key_of(item)) != item.size]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        there = pool.map(lambda item: size_in(store, key_of(item)) == item.size, items)
        return [item for item, here in zip(items, there, strict=True) if not here]


def size_in(store: Store, key: str) -> int | None:
    try:
        return store.size(key)
    except ObjectMissingError:
        return None


def key_of(item: Item) -> str:
    return keys.artifact(str(item.sha256))


def send(store: Store, root: Path, items: Sequence[Item], task: Task, *, sealed: bool) -> None:
    """Send files, checked on their way: under a digest lies nothing else. `sealed` ones on the shelf don't change."""
    small = [item for item in items if item.size <= SMALL_BYTES]
    store.put_many(loaded(root, small, task))
    with ThreadPoolExecutor(BIG_AT_ONCE) as pool:
        big = [item for item in items if item.size > SMALL_BYTES]
        for _ in pool.map(lambda item: send_big(store, root, item, task, sealed), big):
            pass


def loaded(root: Path, items: Sequence[Item], task: Task) -> Iterator[tuple[str, bytes]]:
    for item in items:
        data = place(root, item).read_bytes()
        if sha256_bytes(data) != item.sha256:
            raise changed(place(root, item))
        yield key_of(item), data
        task.advance(len(data))


def send_big(store: Store, root: Path, item: Item, task: Task, sealed: bool) -> None:
    """Send a file and hash it after that: what changed meanwhile is taken away again."""
    path = place(root, item)
    before = fingerprint(path)
    store.put_file(key_of(item), path, moved=task.advance)
    if not sealed and (hashed(path, with_md5=False)[0] != item.sha256 or fingerprint(path) != before):
        store.delete(key_of(item))
        raise changed(path)


def place(root: Path, item: Item) -> Path:
    return root / item.name if item.name else root


def changed(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} changed since it was locked", hint="`launcher lock` takes it as it is now")
