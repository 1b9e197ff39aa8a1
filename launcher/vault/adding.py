"""Put into a vault what it lacks, many files at once, each whole or not at all; references to them come last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from launcher.cache import Cache
from launcher.errors import FetchError, ObjectMissingError, Problem
from launcher.lock import Artifact, Lock, digest, dumps
from launcher.progress import SILENT, Progress, Task
from launcher.store import keys
from launcher.store.objects import Store
from launcher.vault import marks
from launcher.vault.contents import files, sources

WORKERS = 16
SMALL_BYTES = 8 << 20  # bigger ones go one after another, each in parallel parts
ASKED_ONE_BY_ONE = 2000  # more files than that are compared with one listing of the whole vault
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Added:
    """What `add` did: files that were sent, files that were there, the bytes that were sent and that were there."""

    copied: int
    present: int
    size: int
    present_size: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(
            copied=self.copied + other.copied,
            present=self.present + other.present,
            size=self.size + other.size,
            present_size=self.present_size + other.present_size,
        )


NOTHING = Added(copied=0, present=0, size=0)


def add(lock: Lock, cache: Cache, store: Store, progress: Progress = SILENT) -> Added:
    """Put every file that a lock's image is made from into the store, then the lock itself, last.

    Each file is checked by its sha256 before it is sent, and one that is in the store with the right size is left
    alone. Raises FetchError when a file isn't in the cache, StoreError when the store refuses.
    """
    places = in_cache(files(lock), cache) | optional(sources(lock), cache)
    return put(places, references(lock), store, progress)


def references(lock: Lock) -> dict[str, bytes]:
    """Return what is put into the store once a lock's files are there: the lock, and that they are."""
    return {keys.lock(digest(lock)): dumps(lock).encode(), keys.kept(digest(lock)): b""}


def in_cache(wanted: Iterable[Artifact], cache: Cache) -> dict[str, Path]:
    """Return where artifacts lie. Raises FetchError that names all that the cache lacks."""
    wanted = tuple(wanted)
    places = optional(wanted, cache)
    if missing := [Problem(message=f"{a.filename} isn't in the cache") for a in wanted if a.sha256 not in places]:
        raise FetchError.of(missing)
    return places


def optional(wanted: Iterable[Artifact], cache: Cache) -> dict[str, Path]:
    return {a.sha256: path for a in wanted if (path := cache.find("artifacts", a.sha256))}


def put(
    places: Mapping[str, Path], references: Mapping[str, bytes], store: Store, progress: Progress = SILENT
) -> Added:
    """Put files by sha256 into the store, then the small objects that refer to them. Raises StoreError.

    What somebody deletes at the same time because nothing referred to it yet is sent again.
    """
    before = marks.seen(store)
    added = send(places, store, progress)
    for key, data in references.items():
        store.put(key, data)
    return stay(places, store, progress, added, before)


def stay(
    places: Mapping[str, Path],
    store: Store,
    progress: Progress = SILENT,
    added: Added = NOTHING,
    before: frozenset[str] | None = None,
) -> Added:
    """Send files again that somebody deleted before their references were there. To be called once those are.

    `before` are the marks (`launcher.vault.marks.seen`) from when it was asked which files are there.
    """
    if marks.deleted_since(store, before, progress):
        return again(added, send(places, store, progress))
    return added


def again(before: Added, more: Added) -> Added:
    """Sum up a repetition: its files were counted before."""
    return Added(
        copied=before.copied + more.copied,
        present=max(0, before.present - more.copied),
        size=before.size + more.size,
        present_size=before.present_size,
    )


def send(places: Mapping[str, Path], store: Store, progress: Progress) -> Added:
    """Put those files into the store that it lacks, or has with another size."""
    sizes = {sha256: path.stat().st_size for sha256, path in places.items()}
    there = present(store, list(places))
    lacking = sorted((s for s in places if there.get(s) != sizes[s]), key=lambda s: (-sizes[s], s))
    known = sum(sizes[sha256] for sha256 in places if sha256 not in lacking)
    with progress.task("adding to the vault", sum(sizes.values())) as task:
        task.advance(known)
        upload(store, [(sha256, places[sha256], sizes[sha256]) for sha256 in lacking], task)
    sent = sum(sizes[sha256] for sha256 in lacking)
    return Added(copied=len(lacking), present=len(places) - len(lacking), size=sent, present_size=known)


def upload(store: Store, lacking: Sequence[tuple[str, Path, int]], task: Task) -> None:
    """Send files, the big ones first and one by one, since each goes in parallel parts already."""
    for sha256, path, _ in (one for one in lacking if one[2] > SMALL_BYTES):
        store.put_file(keys.artifact(sha256), path, moved=task.advance)

    def small(one: tuple[str, Path, int]) -> None:
        store.put_file(keys.artifact(one[0]), one[1])
        task.advance(one[2])

    at_once(small, [one for one in lacking if one[2] <= SMALL_BYTES])


def present(store: Store, wanted: Sequence[str]) -> dict[str, int]:
    """Return the sizes of those artifacts that the store has, by sha256."""
    if len(wanted) > ASKED_ONE_BY_ONE:
        return {entry.key.rpartition("/")[2]: entry.size for entry in store.list("artifacts/")}
    found: dict[str, int] = {}

    def ask(sha256: str) -> None:
        try:
            found[sha256] = store.size(keys.artifact(sha256))
        except ObjectMissingError:
            return

    at_once(ask, wanted)
    return found


def at_once(action: Callable[[T], object], items: Sequence[T]) -> None:
    """Do something to many, some at a time. The first error stops the rest and is raised."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        for _ in pool.map(action, items):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
