"""The cache of this machine: files by sha256, each written whole or not at all, swept of dead scratch.

    artifacts/sha256/<aa>/<sha256>   wheels, .debs: exactly the bytes that a lock names
    blobs/sha256/<aa>/<sha256>       uncompressed layers, by diff_id
    notes/<kind>/<key>.json          small facts derived from the above, sealed; may be deleted at any time
    partial/<sha256>                 what has come of a big artifact so far, believed by nobody
    tmp/<random>/                    scratch of a living process, held by a lock on `tmp/<random>.lock`

A file's fingerprint (size, times, inode) is noted when its digest was computed; while it stays the same the
digest is believed, and when it changes the file is hashed again and thrown away if it is damaged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.digest import canonical_json, sha256_bytes, sha256_file
from launcher.errors import DiskFullError, LauncherError

Shelf = Literal["artifacts", "blobs"]
SEAL = b'{"sha256":"%s","value":'


def default_root() -> Path:
    """Return $LAUNCHER_CACHE, or `launcher` below $XDG_CACHE_HOME or ~/.cache (XDG Base Directory 0.8)."""
    if own := os.environ.get("LAUNCHER_CACHE"):
        return Path(own).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".cache") / "launcher"


class Cache:
    """Files by sha256 below one folder. Any number of processes may share it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise unusable(self.root, e) from e

    def path(self, shelf: Shelf, sha256: str) -> Path:
        """Return where a file lies or would lie."""
        return self.root / shelf / "sha256" / sha256[:2] / sha256

    def find(self, shelf: Shelf, sha256: str) -> Path | None:
        """Return the file if it is there and undamaged; a damaged one is removed and None returned."""
        path = self.path(shelf, sha256)
        try:
            now = fingerprint(path)
        except OSError:
            return None
        if self.note("fingerprints", f"{shelf}-{sha256}") == now:
            return path
        if sha256_file(path)[0] != sha256:
            path.unlink(missing_ok=True)
            return None
        self.write_note("fingerprints", f"{shelf}-{sha256}", now)
        return path

    def adopt(self, shelf: Shelf, sha256: str, source: Path) -> Path:
        """Move a scratch file, whose digest the caller has computed, to its place; return that place."""
        path = self.path(shelf, sha256)
        with disk_full(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            source.chmod(0o644)
            source.replace(path)
            self.write_note("fingerprints", f"{shelf}-{sha256}", fingerprint(path))
        return path

    def note(self, kind: str, key: str) -> object | None:
        """Return a noted fact, or None when there is none or it is damaged."""
        try:
            return unsealed((self.root / "notes" / kind / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def write_note(self, kind: str, key: str, value: object) -> None:
        """Write a fact, whole or not at all."""
        path = self.root / "notes" / kind / f"{key}.json"
        self.write_file(path, sealed(value))

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a small file below the root through a rename, so that a reader never sees half of it."""
        with disk_full(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                part.write_bytes(data)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a private folder on the cache's file system; it is removed at the end, or by the next one
        to come if this process is killed."""
        tmp = self.root / "tmp"
        try:
            with disk_full(self.root):
                tmp.mkdir(exist_ok=True)
                sweep(tmp)
                held = claim(tmp)
        except OSError as e:
            raise unusable(self.root, e) from e
        try:
            with disk_full(self.root):
                yield held.folder
        finally:
            held.release()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`. A disk that is nearly full takes only a part of a write, and says so by its count alone; it
    is the next write that fails. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; it takes the path's place at the end, or is removed when that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sealed(value: object) -> bytes:
    """Return a note's bytes: the value and its sha256, because a bit may flip and leave JSON that lies."""
    raw = canonical_json(value)
    return SEAL % sha256_bytes(raw).encode() + raw + b"}"


def unsealed(data: bytes) -> object:
    """Return a note's value. Raises ValueError when it isn't what was written."""
    start = len(SEAL % bytes(64))
    raw = data[start:-1]
    if data[:start] != SEAL % sha256_bytes(raw).encode():
        raise ValueError("a damaged note")
    value: object = json.loads(raw)
    return value


def fingerprint(path: Path) -> list[int]:
    """Return [size, mtime, ctime, inode]: what changes when somebody touches a file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def unusable(root: Path, error: OSError) -> LauncherError:
    """Say that the cache's folder can't be made or written to, and what to do."""
    return LauncherError(
        f"the cache {root} can't be used: {error.strerror}",
        hint="point LAUNCHER_CACHE at a folder that you may write to",
    )


CACHE_FULL = "free some, or point LAUNCHER_CACHE at a larger file system; nothing half-written was kept"


@contextlib.contextmanager
def disk_full(place: Path, hint: str = CACHE_FULL) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into a DiskFullError that names the place."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space is left in {place}",
                hint=hint,
            ) from e
        raise


@dataclass
class Claim:
    """A scratch folder, held by a file lock for as long as its process lives."""

    folder: Path
    lock: Path
    descriptor: int

    def release(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.unlink(missing_ok=True)
        os.close(self.descriptor)


def claim(tmp: Path) -> Claim:
    """Make a scratch folder below `tmp`. The lock comes first: a folder without a held lock is fair game."""
    while True:
        folder = tmp / secrets.token_hex(8)
        lock = folder.with_suffix(".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if try_lock(descriptor) and lock.exists():  # else a sweeper was faster: begin again
                folder.mkdir(mode=0o700)
                return Claim(folder, lock, descriptor)
        except OSError:  # a full disk, or no locks: Lustre without `-o flock`, an old NFS
            lock.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)


def sweep(tmp: Path) -> None:
    """Remove scratch whose owner is gone."""
    for lock in tmp.glob("*.lock"):
        with contextlib.suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take an exclusive lock if nobody else holds it. Raises OSError where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
