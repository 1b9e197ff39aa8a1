"""The nouns of a snapshot: a file that was listed, and the snapshot itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One file or symbolic link of the tree. `path` is relative to the root and uses `/`."""

    path: str
    stat: os.stat_result
    target: str | None = None  # of a symbolic link

    @property
    def executable(self) -> bool:
        return bool(self.stat.st_mode & 0o100)


@dataclass(frozen=True, kw_only=True)
class History:
    """What git knows of the tree: empty outside of a repository."""

    commit: str | None = None
    changed: tuple[str, ...] = ()  # tracked files that differ from the commit
    untracked: tuple[str, ...] = ()
    patch: bytes = b""

    @property
    def dirty(self) -> bool:
        return bool(self.changed or self.untracked)


@dataclass(frozen=True, kw_only=True)
class Code:
    """A snapshot. `digest` is the sha256 (64 hex digits) of `archive`, a tar of `files` files and `size` bytes.

    The archive depends on names, contents, links and the executable bit only, so its digest is the tree's digest.
    `patch` is the sha256 of the changes against `commit`, and where they lie; None when there are none or they
    can't be kept. `notes` are for the person who runs it.
    """

    digest: str
    archive: Path
    files: int
    size: int
    commit: str | None = None
    dirty: bool = False
    patch: tuple[str, Path] | None = None
    untracked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """Return what a record says of it, in JSON's types."""
        return {
            "digest": self.digest,
            "files": self.files,
            "size": self.size,
            "commit": self.commit,
            "dirty": self.dirty,
            "patch": self.patch[0] if self.patch else None,
            "untracked": list(self.untracked),
        }
