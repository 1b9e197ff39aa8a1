"""Fetch artifacts: each source in turn, every byte checked, all failures told at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from launcher.cache import Cache, disk_full
from launcher.digest import CHUNK_BYTES, sha256_file
from launcher.errors import FetchError, IntegrityError, Problem, StoreError
from launcher.fetch.partial import Resumable, claimed, gather
from launcher.indexes.source import Source, Stream
from launcher.lock.model import Artifact, Deb, Wheel
from launcher.progress import SILENT, Progress, Task

UNKNOWN_SIZE = 0  # of an artifact whose index doesn't tell; filled in once it is here
VAULT = "give a vault that holds it (`--from STORE`), or configure an index that has it"
BLOB = "where the registry has it no longer, `launcher rebuild LOCK --from STORE` takes it from a vault that holds it"
A = TypeVar("A", bound=Artifact)


@dataclass(kw_only=True)
class Search:
    """What happened to one artifact: where it lies now, or where it was looked for and what was found instead."""

    artifact: Artifact
    path: Path | None = None
    looked: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)  # what the places that failed say of themselves


@runtime_checkable
class Choosy(Protocol):
    """A source that knows what it can't have: it isn't asked for that, nor named among where it was looked for."""

    def may_hold(self, artifact: Artifact) -> bool: ...


def fetch(
    artifacts: Iterable[Artifact],
    cache: Cache,
    sources: Sequence[Source],
    progress: Progress = SILENT,
    workers: int = 4,
) -> dict[str, Path]:
    """Bring artifacts into the cache; return their places by sha256.

    A source that gives other bytes than it should is told of and left for the next one.

    Raises IntegrityError when an artifact was only to be had with wrong bytes, FetchError when one is nowhere,
    DiskFullError. What was fetched before stays in the cache; nothing half is left.
    """
    wanted = list({artifact.sha256: artifact for artifact in artifacts}.values())
    found = {a.sha256: path for a in wanted if (path := cached(cache, a))}
    missing = [artifact for artifact in wanted if artifact.sha256 not in found]
    if not missing:
        return found
    searches = search_all(missing, cache, sources, progress, workers)
    if problems := failures(searches, sources):
        lied = any(search.path is None and search.lies for search in searches)
        raise (IntegrityError if lied else FetchError).of(problems)
    return found | {search.artifact.sha256: search.path for search in searches if search.path}


def fill_sizes(artifacts: Iterable[A], paths: dict[str, Path]) -> tuple[A, ...]:
    """Give artifacts whose index didn't tell their size that of their file."""
    return tuple(
        replace(artifact, size=paths[artifact.sha256].stat().st_size) if artifact.size == UNKNOWN_SIZE else artifact
        for artifact in artifacts
    )


def cached(cache: Cache, artifact: Artifact) -> Path | None:
    """Return an artifact's place in the cache. Raises IntegrityError when the lock has its size wrong."""
    path = cache.find("artifacts", artifact.sha256)
    if path and artifact.size not in (UNKNOWN_SIZE, size := path.stat().st_size):
        if sha256_file(path)[0] != artifact.sha256:  # a write that was cut short was once noted as whole
            path.unlink(missing_ok=True)
            return None
        raise IntegrityError(
            f"{artifact.filename}: the lock says {artifact.size} bytes, and the file with this sha256 has {size}",
            hint="the lock was changed by hand: restore it, or lock again",
        )
    return path


def search_all(
    missing: list[Artifact], cache: Cache, sources: Sequence[Source], progress: Progress, workers: int
) -> list[Search]:
    """Look for many artifacts at once, the biggest first so that the end isn't one long wait."""
    missing.sort(key=lambda artifact: (-artifact.size, artifact.name))
    known = all(artifact.size for artifact in missing)
    total = sum(artifact.size for artifact in missing) if known else None
    label = missing[0].filename if len(missing) == 1 else f"{len(missing)} artifacts"
    with cache.scratch() as scratch, progress.task(f"fetch {label}", total) as task:
        pool = ThreadPoolExecutor(max_workers=workers)
        try:
            return list(pool.map(lambda a: search(a, cache, sources, scratch, progress, task), missing))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def search(
    artifact: Artifact, cache: Cache, sources: Sequence[Source], scratch: Path, progress: Progress, task: Task
) -> Search:
    """Try the sources in their order until one gives the right bytes."""
    result = Search(artifact=artifact)
    for source in (source for source in sources if concerns(source, artifact)):
        try:
            result.path = take(artifact, source, cache, scratch, task)
            if result.path:
                break
            result.looked.append(f"{source.name}: has no such file")
        except IntegrityError as e:
            result.lies.append(e.problems[0].message)
        except (FetchError, StoreError) as e:
            result.looked.append(e.problems[0].message)
            result.hints += [problem.hint for problem in e.problems if problem.hint]
        except OSError as e:  # a disk that fails while it is read
            result.looked.append(f"{source.name}: {e}")
    if result.path:
        for lie in result.lies:
            progress.note(f"{lie}; the right one came from elsewhere")
    return result


def concerns(source: Source, artifact: Artifact) -> bool:
    return isinstance(artifact, source.holds) and (not isinstance(source, Choosy) or source.may_hold(artifact))


def take(artifact: Artifact, source: Source, cache: Cache, scratch: Path, task: Task) -> Path | None:
    """Fetch a file from one source into the cache; None when it hasn't got it. Raises IntegrityError, FetchError."""
    if isinstance(source, Resumable):
        with claimed(cache, artifact.sha256) as part:
            if part:
                return take_resuming(artifact, source, source.name, cache, part, task)
    with source.open(artifact) as stream:
        return take_whole(stream, artifact, source, cache, scratch, task) if stream else None


def take_whole(stream: Stream, artifact: Artifact, source: Source, cache: Cache, scratch: Path, task: Task) -> Path:
    """Copy a stream to scratch, check it, and move it into the cache. Raises IntegrityError, FetchError."""
    part = scratch / artifact.sha256
    try:
        sha256, size = copy(stream, part, artifact, task)
        if wrong := mismatch(artifact, sha256, size):
            task.advance(-size)
            raise wrong_bytes(artifact, source.name, wrong, size)
        return cache.adopt("artifacts", artifact.sha256, part)
    finally:
        part.unlink(missing_ok=True)


def take_resuming(
    artifact: Artifact, source: Resumable, name: str, cache: Cache, part: Path, task: Task
) -> Path | None:
    """Fetch what a partial file lacks. When the whole is wrong it is fetched anew before anybody is called a liar."""
    if path := cache.find("artifacts", artifact.sha256):  # another process has just brought it
        return path
    while True:
        fresh = not part.exists()
        if (found := gather(source, artifact, part, task)) is None:
            return None
        wrong = mismatch(artifact, *found)
        if wrong is None:
            return cache.adopt("artifacts", artifact.sha256, part)
        task.advance(-found[1])
        error = wrong_bytes(artifact, name, wrong, found[1])
        if isinstance(error, FetchError):
            raise error  # ended early: the part is kept
        part.unlink(missing_ok=True)
        if fresh:
            raise error


def copy(stream: Stream, part: Path, artifact: Artifact, task: Task) -> tuple[str, int]:
    """Write a stream to a file; return its sha256 and size. More bytes than there should be are not waited for."""
    digest, size = hashlib.sha256(), 0
    with disk_full(part.parent), part.open("wb") as file:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
            task.advance(len(chunk))
            if artifact.size and size > artifact.size:
                break
    return digest.hexdigest(), size


def mismatch(artifact: Artifact, sha256: str, size: int) -> str | None:
    if artifact.size and size > artifact.size:
        return f"more than the {artifact.size} bytes that were expected"
    if artifact.size and size < artifact.size:
        return f"{size} bytes, and {artifact.size} were expected"
    return f"sha256 {sha256}, and {artifact.sha256} was expected" if sha256 != artifact.sha256 else None


def wrong_bytes(artifact: Artifact, name: str, wrong: str, size: int) -> FetchError | IntegrityError:
    """Tell a file that ends too early, which is trouble of the network, from one that is another."""
    if artifact.size and size < artifact.size:
        return FetchError(f"{name}: {artifact.filename} ended early: {wrong}")
    return IntegrityError(f"{name} gave a wrong {artifact.filename}: {wrong}")


def failures(searches: Iterable[Search], sources: Sequence[Source]) -> list[Problem]:
    """Tell of every artifact that wasn't found, and of those with wrong bytes first."""
    lost = sorted(
        (s for s in searches if s.path is None), key=lambda s: (not s.lies, s.artifact.name, s.artifact.filename)
    )
    return [failure(search, sources) for search in lost]


def failure(search: Search, sources: Sequence[Source]) -> Problem:
    artifact = search.artifact
    title = f"{artifact.name} {artifact.version}: {artifact.filename} (sha256 {artifact.sha256})"
    places = "".join(f"\n  {line}" for line in [*search.lies, *search.looked])
    if search.lies:
        return Problem(message=f"{title} was only to be had with other bytes:{places}", hint=f"don't use it; {VAULT}")
    if not sources:
        return Problem(message=f"{title} is not in the cache, and there is nowhere else to look", hint=VAULT)
    return Problem(message=f"{title} is nowhere to be had:{places}", hint=what_next(search))


def what_next(search: Search) -> str:
    """Return what a registry says of its blobs, or else where any artifact may be taken from."""
    if isinstance(search.artifact, Deb | Wheel):
        return VAULT
    return "; ".join([*dict.fromkeys(search.hints), BLOB])
