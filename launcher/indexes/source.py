"""The seam behind which every place that may hold an artifact stands: indexes, folders, mirrors, vaults."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from launcher.lock.model import Artifact


class Stream(Protocol):
    """Bytes to be read in order. `read` may give fewer bytes than asked for; it gives none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Source(Protocol):
    """A place that may hold artifacts.

    `name` is for messages and holds no credentials; `holds` is the kind of artifact that it is asked for. `open`
    gives a stream of the file, or None when the place hasn't got it. It raises FetchError when the place can't be
    asked or fails, and IntegrityError when the place is known to hold other bytes under that name. Nothing that it
    gives is believed: the caller checks the sha256. Several threads may call it at once.
    """

    @property
    def name(self) -> str: ...

    @property
    def holds(self) -> type[Artifact]: ...

    def open(self, artifact: Artifact) -> AbstractContextManager[Stream | None]: ...
