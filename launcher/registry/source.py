"""A repository of a registry as a place to fetch artifacts from; see `launcher.indexes.source.Source`."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from launcher.errors import FetchError
from launcher.lock.model import Artifact, Deb, Wheel
from launcher.registry.reference import Reference
from launcher.registry.session import NETWORK, TRIES, Session, reason
from launcher.registry.settings import registry_settings
from launcher.registry.tls import network_errors

if TYPE_CHECKING:
    import httpx

RESUMES = 200  # of one blob, however far each brings it
GONE = (404, 410)


class Stream(Protocol):
    """Bytes to be read in order."""

    def read(self, size: int, /) -> bytes: ...


class RegistrySource:
    """The blobs of one repository, by digest. With `only` (sha256s) it is asked for nothing else."""

    holds = Artifact

    def __init__(
        self, reference: Reference, only: Iterable[str] | None = None, *, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.reference, self.environ = reference, environ
        self.only = frozenset(only) if only is not None else None
        self.guard = threading.Lock()

    @property
    def name(self) -> str:
        return self.reference.repository

    @functools.cached_property
    def sessions(self) -> list[Session]:
        places = registry_settings(self.environ).places(self.reference)
        return [Session(place, environ=self.environ) for place in places]

    def may_hold(self, artifact: Artifact) -> bool:
        if self.only is not None:
            return artifact.sha256 in self.only
        return not isinstance(artifact, Deb | Wheel)

    def open(self, artifact: Artifact) -> contextlib.AbstractContextManager[Stream | None]:
        """Stream a blob, going on after cuts. Raises FetchError, also while it is read."""
        return self.open_from(artifact, 0)

    @contextlib.contextmanager
    def open_from(self, artifact: Artifact, offset: int) -> Iterator[Stream | None]:
        """Stream a blob from a byte on: what was fetched before need not come again."""
        if not self.may_hold(artifact):
            yield None
            return
        with contextlib.ExitStack() as stack:
            yield self.first(artifact, offset, stack)

    def first(self, artifact: Artifact, offset: int, stack: contextlib.ExitStack) -> Stream | None:
        with self.guard:
            sessions = self.sessions
        for session in sessions:
            blob = Resuming(session, artifact.sha256, offset, stack)
            try:
                if blob.begin():
                    return blob
            except FetchError:
                if not session.place.mirror:
                    raise
        return None


class Resuming:
    """A blob that is read. After a cut the rest is asked for, from the registry itself: links to storage run out."""

    def __init__(self, session: Session, sha256: str, offset: int, stack: contextlib.ExitStack) -> None:
        self.session, self.stack, self.offset = session, stack, offset
        self.url = session.url(f"blobs/sha256:{sha256}")
        self.what = f"{session.reference.repository}: the blob sha256:{sha256}"
        self.chunks: Iterator[bytes] = iter(())
        self.cuts = 0

    def begin(self) -> bool:
        """Ask from `offset` on; False when the registry has no such blob (OCI Distribution 1.1, "Pulling blobs")."""
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={self.offset}-"} if self.offset else {})}
        response = self.stack.enter_context(self.session.request("GET", self.url, headers=headers))
        if response.status_code in GONE:
            return False
        self.chunks = self.rest(response)
        return True

    def rest(self, response: httpx.Response) -> Iterator[bytes]:
        if response.status_code == 206 and starts_at(response.headers.get("content-range", ""), self.offset):
            return response.iter_raw()
        if response.status_code == 200:
            return skip(response.iter_raw(), self.offset)
        if response.status_code == 416:  # all of it was there already
            return iter(())
        raise self.session.failure(self.what, response)

    def read(self, size: int, /) -> bytes:
        failures = 0
        while True:
            try:
                chunk = next(self.chunks, b"")
                self.offset += len(chunk)
                return chunk
            except network_errors() as e:
                self.cuts += 1
                failures += 1
                if failures >= TRIES or self.cuts > RESUMES:
                    message = f"{self.what} was cut after {self.offset} bytes, again and again: {reason(e)}"
                    raise FetchError(message, hint=NETWORK) from e
                self.session.pause(failures - 1)
                if not self.begin():
                    raise FetchError(f"{self.what} vanished while it was read", hint="try again") from e


def starts_at(content_range: str, offset: int) -> bool:
    return content_range.startswith(f"bytes {offset}-")


def skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Drop the first `count` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(0, count - len(chunk))
