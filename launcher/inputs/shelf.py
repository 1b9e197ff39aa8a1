"""The inputs that this node has: each content once, shared by all jobs, held while somebody uses it.

    files/sha256/<aa>/<sha256>   each content once, read-only
    entries/<digest>/data        an input as it is mounted: a file, or a folder of further names of the files above
    entries/<digest>/about.json  what it is; written before the entry appears
    lists/<digest>.json          which files a tree has; kept when the tree goes, to tell what changed
    locks/<key>                  held for good while an entry is made or removed, shared while it is used
    partial/<key>                what came of a big file so far, believed by nobody

An entry appears by one rename. Nothing in it is ever written to: files have mode 0444 and one fixed time, so that a
file that was touched is seen at a glance, and is brought again. The time of a lock file says when its entry was used.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cache import Cache, disk_full
from launcher.errors import IntegrityError, LauncherError
from launcher.inputs import locks
from launcher.inputs.items import Item, from_json, to_json
from launcher.progress import SILENT, Progress

FULL = "free some, or point LAUNCHER_INPUTS at a larger file system; what came whole is kept for the next try"
TIME_NS = 315532800 * 10**9  # 1980, the earliest that a zip archive can hold: of every file in here
LOOSE = "loose"  # the lock of those who gather contents
SHARED = 0o3777  # of a folder's mode: what those made in it get too, where others may write


def default_root(cache: Cache) -> Path:
    """Return $LAUNCHER_INPUTS, a disk of this node, or `inputs` below the cache."""
    own = os.environ.get("LAUNCHER_INPUTS")
    return Path(own).absolute() if own else cache.root / "inputs"


@dataclass(frozen=True, kw_only=True)
class Held:
    """An entry that isn't removed while this is held: until `release`, or until the process ends."""

    path: Path
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


class Shelf:
    """Inputs below one folder. Any number of processes of a node may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            with disk_full(root, FULL):
                for name in ("files", "entries", "lists", "locks", "partial"):
                    self.folder(name)
        except OSError as e:
            raise locks.unusable(root, e) from e

    @classmethod
    def of(cls, cache: Cache) -> Shelf:
        return cls(default_root(cache))

    def folder(self, *names: str) -> Path:
        """Return a folder, made when missing; where others may write to the root, they may here."""
        path = self.root
        path.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & SHARED
        for name in names:
            path /= name
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                if mode & 0o022:
                    path.chmod(mode)
        return path

    def file(self, sha256: str) -> Path:
        return self.root / "files" / "sha256" / sha256[:2] / sha256

    def entry(self, digest: str) -> Path:
        return self.root / "entries" / digest

    def has(self, item: Item) -> bool:
        """Tell whether a file's content is here, untouched."""
        return item.sha256 is not None and untouched(self.file(item.sha256), item.size)

    def find(self, digest: str) -> Held | None:
        """Return an entry, held, or None when it isn't here or was touched."""
        while (about := self.about(digest)) is not None:
            descriptor = self.lock(digest, locks.TOGETHER)
            if self.about(digest) is None:  # removed meanwhile
                os.close(descriptor)
                continue
            if not self.whole(digest, about):
                os.close(descriptor)
                return None
            with contextlib.suppress(OSError):  # another user's
                os.utime(descriptor)
            return Held(path=self.entry(digest) / "data", descriptor=descriptor)
        return None

    def about(self, digest: str) -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads((self.entry(digest) / "about.json").read_bytes())
        except (OSError, ValueError):
            return None
        return told

    def whole(self, digest: str, about: dict[str, Any]) -> bool:
        """Tell whether all files of an entry are there, with the sizes and times that they got."""
        data = self.entry(digest) / "data"
        if about["kind"] == "file":
            return untouched(data, about["size"])
        items = self.listed(digest)
        return items is not None and all(
            untouched(data / item.name, item.size) if item.target is None else (data / item.name).is_symlink()
            for item in items
        )

    def listed(self, digest: str) -> list[Item] | None:
        """Return the list of a tree's files, or None when nobody noted it here."""
        try:
            return from_json((self.root / "lists" / f"{digest}.json").read_bytes(), digest, "the node's list")
        except (OSError, IntegrityError):
            return None

    def note_list(self, digest: str, items: list[Item]) -> None:
        """Keep the list of a tree's files."""
        path = self.root / "lists" / f"{digest}.json"
        if path.exists():
            return
        part = path.with_name(f".{digest}.{secrets.token_hex(4)}")
        with disk_full(self.root, FULL):
            part.write_bytes(to_json(items))
            part.replace(path)

    def keep(self, path: Path, sha256: str) -> None:
        """Move a file of this file system, whose digest the caller has computed, to its place.

        The one that is there stays: entries may have names of it.
        """
        with disk_full(self.root, FULL):
            place = self.file(sha256)
            if untouched(place, path.stat().st_size):
                path.unlink()
                return
            path.chmod(0o444)
            os.utime(path, ns=(TIME_NS, TIME_NS))
            if not place.parent.exists():
                self.folder("files", "sha256", sha256[:2])
            path.replace(place)

    def lock(self, key: str, how: int) -> int:
        """Take a lock; see `locks.take`."""
        return locks.take(self.root / "locks" / key, how)

    def alone(self, key: str, what: str, progress: Progress = SILENT) -> AbstractContextManager[None]:
        """Do something that only one process of the node does at a time; see `locks.alone`."""
        return locks.alone(self.root / "locks" / key, what, progress)

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Keep contents that no entry has yet: they are not swept while anybody gathers."""
        descriptor = self.lock(LOOSE, locks.TOGETHER)
        try:
            yield
        finally:
            os.close(descriptor)

    def part(self, key: str) -> Path:
        """Return where a big file grows until it is whole."""
        return self.root / "partial" / key


def noted_list(cache: Cache, digest: str) -> list[Item] | None:
    """Return the list of a tree's files, if this node has noted it, or has a folder of inputs at all."""
    with contextlib.suppress(LauncherError):
        return Shelf.of(cache).listed(digest)
    return None


def untouched(path: Path, size: int) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime_ns == TIME_NS


def remove_tree(path: Path) -> None:
    """Remove a folder whose folders are read-only."""
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o755)
    shutil.rmtree(path, ignore_errors=True)
