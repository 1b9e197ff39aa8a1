"""Big files that come in several goes: what was fetched before a cut is kept in the cache and not fetched again.

A partial file lies at `partial/<sha256>` below the cache's root, held by a lock on `<sha256>.lock` while somebody
writes to it. It is believed by nobody: the whole is hashed at the end, and begun anew when it is wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from launcher.cache import Cache, disk_full, write_all
from launcher.digest import CHUNK_BYTES
from launcher.errors import DiskFullError
from launcher.indexes.source import Stream
from launcher.lock.model import Artifact
from launcher.progress import Task

KEPT_S = 30 * 24 * 3600


@runtime_checkable
class Resumable(Protocol):
    """A source that can begin a file at any byte."""

    def open_from(self, artifact: Artifact, offset: int) -> AbstractContextManager[Stream | None]: ...


@contextlib.contextmanager
def claimed(cache: Cache, sha256: str) -> Iterator[Path | None]:
    """Give the place of a partial file that is ours alone; None when another process has it, or nobody can lock."""
    folder = cache.root / "partial"
    with disk_full(cache.root):
        folder.mkdir(exist_ok=True)
        sweep(folder)
        descriptor = os.open(folder / f"{sha256}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield folder / sha256 if held(descriptor) else None
    finally:
        os.close(descriptor)


def held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken, or a file system without locks
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove what nobody has gone on with for a month. Locks stay: a lock file that is removed locks nothing."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.suffix != ".lock" and path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink()


def gather(source: Resumable, artifact: Artifact, part: Path, task: Task) -> tuple[str, int] | None:
    """Fetch what `part` lacks; return the sha256 and size of the whole, or None when the source hasn't got it.

    After an error the part stays for the next go, except on a full disk.
    """
    digest, size = hashed(part, artifact.size)
    task.advance(size)
    with source.open_from(artifact, size) as stream:
        if stream is None:
            task.advance(-size)
            return None
        try:
            with disk_full(part.parent), part.open("ab", buffering=0) as file:
                while chunk := stream.read(CHUNK_BYTES):
                    write_all(file.fileno(), chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    task.advance(len(chunk))
                    if artifact.size and size > artifact.size:
                        break
        except DiskFullError:
            part.unlink(missing_ok=True)
            raise
    return digest.hexdigest(), size


def hashed(part: Path, size: int) -> tuple[hashlib._Hash, int]:
    """Hash what is there already; a part that is longer than the whole should be is thrown away."""
    digest, found = hashlib.sha256(), 0
    with contextlib.suppress(FileNotFoundError):
        if size and part.stat().st_size > size:
            part.unlink()
        with part.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                found += len(chunk)
    return digest, found
