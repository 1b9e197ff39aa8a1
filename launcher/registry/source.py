"""A repository of a registry as a place to fetch artifacts from; see `launcher.indexes.source.Source`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from launcher.lock.model import Artifact, Deb, Wheel
from launcher.registry.reference import Reference


class Stream(Protocol):
    """Bytes to be read in order."""

    def read(self, size: int, /) -> bytes: ...


class RegistrySource:
    """The blobs of one repository. With `only` (sha256s) it is asked for nothing else."""

    holds = Artifact

    def __init__(self, reference: Reference, only: Iterable[str] | None = None) -> None:
        self.reference, self.only = reference, frozenset(only) if only is not None else None

    @property
    def name(self) -> str:
        return self.reference.repository

    def may_hold(self, artifact: Artifact) -> bool:
        if self.only is not None:
            return artifact.sha256 in self.only
        return not isinstance(artifact, Deb | Wheel)

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[Stream | None]:
        """Stream a blob, going on after cuts. Raises FetchError."""
        raise NotImplementedError
        yield
