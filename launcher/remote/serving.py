"""A read-only registry on this machine's loopback, for one image: what an engine asks for when it pulls.

Its repository is a secret of 256 bits, since every user of a machine can reach its loopback; who doesn't know it finds
nothing. A blob may be had from an offset on, and by our own clients in pieces that are compressed where that pays.
Source: OCI Distribution Specification 1.1, "Pull"; RFC 9110, 13.1.5 (If-Range) and 14 (Range).
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from launcher.digest import CHUNK_BYTES, sha256_bytes
from launcher.image.oci import MANIFEST_TYPE
from launcher.progress import SilentTask, Task
from launcher.remote.sending import compressor, content

if TYPE_CHECKING:
    from launcher.image.oci import Image

PIECES = "x-launcher-pieces"  # the coding of launcher.remote.sending, without its first line
ANY = "application/octet-stream"
PATH = re.compile(r"/v2/(?P<secret>[^/]+)/(?P<kind>manifests|blobs)/(?P<name>[^/]+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
BACKLOG = 32
Cut = (BrokenPipeError, ConnectionResetError)


class Blob(Protocol):
    """Content that may still be under way."""

    @property
    def size(self) -> int: ...

    def chunks(self, start: int) -> Iterator[bytes]:
        """Yield what there is from an offset on. Raises OSError when it can't be had."""
        ...


@dataclass(frozen=True, kw_only=True)
class FileBlob:
    """A file of the cache."""

    path: Path
    size: int

    def chunks(self, start: int) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            stream.seek(start)
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True, kw_only=True)
class BytesBlob:
    """A small document."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self, start: int) -> Iterator[bytes]:
        yield self.data[start:]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What is served: a manifest, and blobs by digest ("sha256:..."). `secret` is the repository's name."""

    manifest: bytes = field(repr=False)
    blobs: Mapping[str, Blob] = field(repr=False)
    task: Task = field(default_factory=SilentTask)  # told of every byte that goes out, before compression
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    @property
    def digest(self) -> str:
        return f"sha256:{sha256_bytes(self.manifest)}"


def offer(image: Image, task: Task) -> Offer:
    """Return an image of the cache as an offer: its own manifest, whose layers are plain tars."""
    blobs: dict[str, Blob] = {f"sha256:{x.diff_id}": FileBlob(path=x.path, size=x.size) for x in image.layers}
    blobs[f"sha256:{image.id}"] = BytesBlob(data=image.config)
    return Offer(manifest=image.manifest, blobs=blobs, task=task)


class Registry(ThreadingHTTPServer):
    """The server. `asked` tells whether anybody has come who knows the secret."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, offered: Offer) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.offer = offered
        self.asked = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who asked sees that the answer broke off, and asks again."""


@contextmanager
def serving(offered: Offer) -> Iterator[Registry]:
    """Serve until the context is left."""
    with Registry(offered) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Answer(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Registry
    timeout = 600  # of a client that says nothing

    def do_GET(self) -> None:
        with suppress(*Cut):
            self.answer(body=True)

    def do_HEAD(self) -> None:
        with suppress(*Cut):
            self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path in ("/v2", "/v2/"):
            self.give(BytesBlob(data=b"{}"), "application/json", None, body=body)
            return
        asked = PATH.fullmatch(path)
        offered = self.server.offer
        if asked is None or not hmac.compare_digest(asked["secret"].encode(), offered.secret.encode()):
            self.refuse(HTTPStatus.NOT_FOUND)
            return
        self.server.asked.set()
        if asked["kind"] == "manifests" and asked["name"] in (offered.digest, "latest"):
            self.give(BytesBlob(data=offered.manifest), MANIFEST_TYPE, offered.digest, body=body)
        elif asked["kind"] == "blobs" and (blob := offered.blobs.get(asked["name"])):
            self.give(blob, ANY, asked["name"], body=body)
        else:
            self.refuse(HTTPStatus.NOT_FOUND)

    def give(self, blob: Blob, media_type: str, digest: str | None, *, body: bool) -> None:
        """Answer with a blob, or with the part of it that is asked for."""
        part = self.part(blob.size, digest)
        if part is None:
            self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{blob.size}"})
            return
        start, end, whole = part
        coded = digest is not None and self.headers.get("Accept-Encoding") == PIECES
        self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
        self.send_headers(media_type, digest, None if coded else end - start)
        if not whole:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{blob.size}")
        self.end_headers()
        if body:
            chunks = cut_at(blob.chunks(start), end - start)
            self.send(content(chunks, compressor(), self.server.offer.task) if coded else self.counted(chunks))

    def send_headers(self, media_type: str, digest: str | None, size: int | None) -> None:
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", media_type)
        self.send_header("Accept-Ranges", "bytes")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("ETag", f'"{digest}"')
        if size is None:
            self.send_header("Content-Encoding", PIECES)
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(size))

    def part(self, size: int, digest: str | None) -> tuple[int, int, bool] | None:
        """Return (start, end, whether that is all); None for what can't be given. Several ranges at once are none."""
        asked = RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or self.headers.get("If-Range", f'"{digest}"') != f'"{digest}"':
            return 0, size, True
        start, end = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
        return (start, end, False) if start < end else None

    def send(self, chunks: Iterable[bytes]) -> None:
        """Write a body. One that breaks off takes the connection with it, so that nobody takes it for the whole."""
        try:
            for chunk in chunks:
                self.wfile.write(chunk)
        except OSError:
            self.close_connection = True
            raise

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            self.server.offer.task.advance(len(chunk))

    def refuse(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: the path holds a secret."""


def cut_at(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes. Raises OSError when there are fewer."""
    left = size
    while left:
        chunk = next(chunks, b"")
        if not chunk:
            raise OSError("a blob is shorter than it should be")
        yield chunk[:left]
        left -= min(left, len(chunk))
