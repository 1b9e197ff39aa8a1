"""Send one blob to a registry, going on where a cut left it if the registry knows how far it came.

Source: OCI Distribution Specification 1.1, "Pushing blobs": POST begins a session, PATCH sends bytes, GET tells how
many have arrived, PUT closes it with the digest. A registry that has lost the session (distribution up to 2.8 does
when a PATCH is cut) gets the blob from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from launcher.digest import CHUNK_BYTES
from launcher.errors import LauncherError
from launcher.progress import Task
from launcher.registry.session import AGAIN, TRIES, Session
from launcher.registry.tls import network_errors

if TYPE_CHECKING:
    import httpx

WHOLE_BYTES = 4 << 20  # smaller ones go with the closing request
PIECE_BYTES = 32 << 20  # where a registry, or what stands before it, refuses a big body (413)
BINARY = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Blob:
    """What is sent: bytes at hand, or a file. `digest` is its sha256, 64 hex digits."""

    name: str
    digest: str
    size: int
    content: bytes | Path = field(repr=False)

    def slice(self, start: int, end: int, sent: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the bytes of a part."""
        if isinstance(self.content, bytes):
            sent(end - start)
            yield self.content[start:end]
            return
        with self.content.open("rb", buffering=0) as stream:
            stream.seek(start)
            while start < end and (chunk := stream.read(min(CHUNK_BYTES, end - start))):
                start += len(chunk)
                yield chunk
                sent(len(chunk))


class Lost(Exception):  # noqa: N818  (no error that anybody is told of: the blob is begun anew)
    """The registry has forgotten the session."""


class Upload:
    """The sending of one blob. `moved` counts the bytes that went out, those sent twice included."""

    def __init__(self, session: Session, blob: Blob, task: Task) -> None:
        self.session, self.blob, self.task = session, blob, task
        self.moved = 0
        self.shown = 0
        self.failures = 0
        self.piece = blob.size

    def run(self, mount_from: str | None = None) -> bool:
        """Send the blob; False when the registry took it over from the repository `mount_from` instead.

        Raises the session's error when the registry refuses it, or is cut off again and again.
        """
        while True:
            try:
                location = self.begin(mount_from)
                if location is None:
                    self.tell(self.blob.size)
                    return False
                self.send(location)
                self.tell(self.blob.size)
                return True
            except Lost as e:
                self.fail(str(e))
                mount_from = None

    def begin(self, mount_from: str | None) -> str | None:
        """Open a session; return its URL, or None when the blob was mounted ("Mounting a blob")."""
        url = self.session.url("blobs/uploads/")
        if mount_from:
            url += f"?mount=sha256:{self.blob.digest}&from={mount_from}"
        with self.session.request("POST", url, headers={"Content-Length": "0"}) as response:
            if response.status_code == 201:
                return None
            if response.status_code != 202:
                raise self.session.failure(f"{self.what()} can't be sent", response)
            return self.next_place(url, response)

    def send(self, location: str) -> None:
        if self.blob.size <= WHOLE_BYTES:
            self.close(location, 0)
            return
        offset = 0
        while offset < self.blob.size:
            location, offset = self.patch(location, offset)
        self.close(location, self.blob.size)

    def patch(self, location: str, offset: int) -> tuple[str, int]:
        """Send bytes from `offset` on; return where the next go, and how far the registry has come."""
        end = min(offset + self.piece, self.blob.size)
        headers = {"Content-Type": BINARY, "Content-Length": str(end - offset)}
        if (offset, end) != (0, self.blob.size):
            headers["Content-Range"] = f"{offset}-{end - 1}"
        try:
            with self.session.request("PATCH", location, headers=headers, body=self.body(offset, end), tries=1) as told:
                if told.status_code in (201, 202, 204):
                    return self.next_place(location, told), arrived(told, end)
                if told.status_code == 413 and self.piece > PIECE_BYTES:
                    self.piece = PIECE_BYTES
                    raise Lost(f"{self.what()} is too big for one request")
                if told.status_code not in (*AGAIN, 416):
                    self.judge(told)
                why = f"the registry answered {told.status_code}"
        except LauncherError as e:
            if not isinstance(e.__cause__, network_errors()):
                raise
            why = e.problems[0].message
        self.fail(why)
        return self.status(location)

    def status(self, location: str) -> tuple[str, int]:
        """Ask how far the registry has come."""
        with self.session.request("GET", location) as told:
            if told.status_code not in (200, 202, 204):
                self.judge(told)
            offset = arrived(told, 0)
            self.tell(offset)
            return self.next_place(location, told), offset

    def close(self, location: str, offset: int) -> None:
        """Send the rest and the digest. Where the answer is lost, the registry is asked whether it has the blob."""
        joint = "&" if urlsplit(location).query else "?"
        url = f"{location}{joint}digest=sha256:{self.blob.digest}"
        length = self.blob.size - offset
        headers = {"Content-Type": BINARY, "Content-Length": str(length)}
        body = self.body(offset, self.blob.size) if length else b""
        try:
            with self.session.request("PUT", url, headers=headers, body=body, tries=1) as told:
                if told.status_code in (201, 202, 204):
                    return
                if told.status_code not in AGAIN:
                    self.judge(told)
                why = f"the registry answered {told.status_code}"
        except LauncherError as e:
            if not isinstance(e.__cause__, network_errors()):
                raise
            why = e.problems[0].message
        if not present(self.session, self.blob.digest):
            raise Lost(why)

    def judge(self, told: httpx.Response) -> None:
        """Raise Lost for a session that is gone or came out wrong, and what the registry says for all else."""
        if told.status_code in (400, 404, 416):
            raise Lost(str(self.session.failure(f"{self.what()} can't be sent", told).problems[0].message))
        raise self.session.failure(f"{self.what()} can't be sent", told)

    def body(self, start: int, end: int) -> Callable[[], Iterator[bytes]]:
        def count(sent: int) -> None:
            self.moved += sent
            self.tell(self.shown + sent)

        def make() -> Iterator[bytes]:
            self.tell(start)
            return self.blob.slice(start, end, count)

        return make

    def tell(self, position: int) -> None:
        """Move the bar to a position, back too."""
        self.task.advance(position - self.shown)
        self.shown = position

    def fail(self, why: str) -> None:
        """Count a failure, and wait. Raises the session's error when there were too many."""
        self.failures += 1
        if self.failures >= TRIES:
            raise self.session.error(
                f"{self.what()} could not be sent in {TRIES} tries: {why}",
                hint="the same command again sends only what the registry lacks",
            )
        self.session.pause(self.failures - 1)

    def what(self) -> str:
        return f"{self.session.reference.repository}: {self.blob.name} (sha256:{self.blob.digest[:12]}...)"

    def next_place(self, url: str, told: httpx.Response) -> str:
        """Return a Location, which may be relative; a registry behind a proxy may not know that it is asked by TLS."""
        place = urljoin(url, str(told.headers.get("location") or url))
        parts, mine = urlsplit(place), urlsplit(self.session.url(""))
        if parts.netloc == mine.netloc and parts.scheme != mine.scheme:
            return urlunsplit(parts._replace(scheme=mine.scheme))
        return place


def arrived(told: httpx.Response, otherwise: int) -> int:
    """Read Range, "0-N": N + 1 bytes are there. "0-0" is what registries say of none, too."""
    first, _, last = told.headers.get("range", "").removeprefix("bytes=").partition("-")
    if first != "0" or not last.isdigit():
        return otherwise
    return int(last) + 1 if int(last) else 0


def present(session: Session, digest: str) -> bool:
    """Ask whether a repository has a blob."""
    with session.request("HEAD", session.url(f"blobs/sha256:{digest}")) as told:
        if told.status_code == 404:
            return False
        if told.status_code == 200:
            return True
        raise session.failure(f"{session.reference.repository}: sha256:{digest}", told)
