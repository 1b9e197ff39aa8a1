"""A vault in a folder: artifacts by sha256, for rebuilding without any index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from launcher.indexes.local import open_file
from launcher.indexes.source import Stream
from launcher.lock.model import Artifact


class VaultFolder:
    """A store's folder: files lie at `artifacts/sha256/<aa>/<sha256>` below `root`."""

    holds = Artifact

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        return f"vault {self.root}"

    def path(self, sha256: str) -> Path:
        return self.root / "artifacts" / "sha256" / sha256[:2] / sha256

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[Stream | None]:
        with open_file(self.path(artifact.sha256)) as stream:
            yield stream
