"""The vault: the part of a store that keeps artifacts, so that a rebuild needs no package index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.cache import Cache
from launcher.errors import FetchError, Problem
from launcher.lock import Artifact, Lock, digest, dumps
from launcher.progress import SILENT, Progress
from launcher.store import keys
from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Added:
    """What `add` did: files that were copied, files that were there, and the bytes of the copies."""

    copied: int
    present: int
    size: int


def add(lock: Lock, cache: Cache, store: Store, progress: Progress = SILENT) -> Added:
    """Copy every file that a lock's image is made from into the store, then the lock itself, last.

    Each file is checked by its sha256 before it is copied, and one that is in the store with the right size is left
    alone. Raises FetchError when a file isn't in the cache, StoreError when the store refuses.
    """
    wanted = files(lock)
    places = {artifact.sha256: cache.find("artifacts", artifact.sha256) for artifact in wanted}
    if missing := [Problem(message=f"{a.filename} isn't in the cache") for a in wanted if not places[a.sha256]]:
        raise FetchError.of(missing)
    copied = size = 0
    with progress.task("adding to the vault", sum(artifact.size for artifact in wanted)) as task:
        for artifact in wanted:
            path = places[artifact.sha256]
            if path and not holds(store, artifact.sha256, path.stat().st_size):
                store.put_file(keys.artifact(artifact.sha256), path)
                copied, size = copied + 1, size + path.stat().st_size
            task.advance(artifact.size)
    store.put(keys.lock(digest(lock)), dumps(lock).encode())
    return Added(copied=copied, present=len(wanted) - copied, size=size)


def files(lock: Lock) -> tuple[Artifact, ...]:
    """Return all artifacts of a lock, the lists of files of its layers included."""
    return tuple({a.sha256: a for a in (*lock.artifacts, *listings(lock))}.values())


def listings(lock: Lock) -> tuple[Artifact, ...]:
    """Return the lists of files of a lock's layers, as artifacts. Their sizes are told by nobody."""
    layers = lock.image.layers if lock.image else ()
    return tuple(
        Artifact(name=x.name, version="", filename=f"the list of files of layer {x.name}", size=0, sha256=x.listing)
        for x in layers
    )


def holds(store: Store, sha256: str, size: int) -> bool:
    from launcher.errors import ObjectMissingError

    try:
        return store.size(keys.artifact(sha256)) == size
    except ObjectMissingError:
        return False


class VaultSource:
    """A store as a place to fetch artifacts from; see `launcher.indexes.source.Source`."""

    holds = Artifact

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def name(self) -> str:
        return f"the vault in {self.store.url}"

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[Pieces | None]:
        key = keys.artifact(artifact.sha256)
        yield Pieces(self.store.stream(key)) if self.store.exists(key) else None


class Pieces:
    """An iterator of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces

    def read(self, size: int, /) -> bytes:
        return next(self.pieces, b"")
