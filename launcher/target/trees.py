"""Archives unpacked as folders in the cache, once each: layers and code snapshots, ready to be mounted read-only.

    trees/<sha256>         the folder
    trees/<sha256>.lock    held while it is checked or made
    notes/trees/<sha256>   what it looked like when it was made: a tree without this note is not a tree

A folder appears by one rename and counts only with its note, so a killed process leaves nothing that is believed.
Each use compares sizes, modes and times of all its files with the note; a tree that was touched is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import marshal
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISDIR

from launcher.cache import Cache, disk_full
from launcher.digest import sha256_file
from launcher.errors import IntegrityError
from launcher.target.untar import unpack


def tree(cache: Cache, sha256: str, archive: Path) -> Path:
    """Return the folder that the uncompressed tar `archive`, known by `sha256`, unpacks to.

    Raises ImageError when the archive is broken, DiskFullError when there is no room for it.
    """
    return kept(cache, sha256, lambda folder: unpack(archive, folder))


def code(cache: Cache, sha256: str, archive: Path) -> Path:
    """Return the folder that an archive of code unpacks to, which is looked at first: a record names it by `sha256`.

    Raises IntegrityError when the archive is another one, and what `tree` does.
    """

    def fill(folder: Path) -> None:
        if (found := sha256_file(archive)[0]) != sha256:
            hint = "delete it, and submit or start the run again: what is missing comes anew"
            raise IntegrityError(f"the code {archive} is damaged: its sha256 is {found}", hint=hint)
        unpack(archive, folder)

    return kept(cache, sha256, fill)


def kept(cache: Cache, name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder of this name; `fill` makes its content where it is missing or was touched."""
    folder = cache.root / "trees" / name
    with disk_full(cache.root):
        folder.parent.mkdir(exist_ok=True)
        with exclusive(folder.with_suffix(".lock")):
            noted = cache.note("trees", name)
            if noted is None or noted != looks(folder):
                make(cache, folder, fill)
    return folder


def make(cache: Cache, folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill beside and swap in; the note comes last."""
    with cache.scratch() as scratch:
        new = scratch / "tree"
        new.mkdir()
        new.chmod(0o755)
        fill(new)
        if folder.exists():
            folder.rename(scratch / "old")
            make_removable(scratch / "old")
        new.rename(folder)
    cache.write_note("trees", folder.name, looks(folder))


def looks(folder: Path) -> str | None:
    """Return a digest of every entry's name, mode, size and time of change; None when a folder can't be read."""
    digest = hashlib.blake2b(digest_size=16)
    left = [os.fsencode(folder)]
    try:
        while left:
            path = left.pop()
            rows = list(rows_of(path))
            digest.update(marshal.dumps(rows))
            left.extend(path + b"/" + name for name, mode, _, _ in rows if S_ISDIR(mode))
    except OSError:
        return None
    return digest.hexdigest()


def rows_of(path: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (name, mode, size in bytes, mtime in ns) of what is in a folder; a folder's own size says nothing."""
    here = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in sorted(os.listdir(here)):  # noqa: PTH208 - by descriptor, which makes short look-ups
            stat = os.stat(name, dir_fd=here, follow_symlinks=False)
            yield os.fsencode(name), stat.st_mode, 0 if S_ISDIR(stat.st_mode) else stat.st_size, stat.st_mtime_ns
    finally:
        os.close(here)


def make_removable(folder: Path) -> None:
    """Give the owner the right to empty every folder of a tree that is going to be removed."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o700)


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock file; a process that dies lets go of it."""
    with lock.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
