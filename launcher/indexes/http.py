"""Ask HTTP servers for pages and files: bounded retries, and a file that is cut goes on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import random
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from launcher.credentials import shown, split_login
from launcher.errors import FetchError
from launcher.indexes.source import Stream

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 30.0
TRIES = 4
RESUMES = 50  # of one file, however far each brings it
FIRST_PAUSE_S = 0.4
LONGEST_PAUSE_S = 20.0
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
GONE = frozenset({404, 410})
CLOSED = frozenset({401, 403, 407})
NETWORK = "check the network and the proxy settings, or fetch from a vault"
LOGIN = "check the credentials that pip, uv or ~/.netrc have for this host"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A small document. `url` is where it was found in the end, which relative links refer to."""

    text: str
    content_type: str
    url: str


class Http:
    """A client that trusts the system's certificates, SSL_CERT_FILE and `cert`, and uses the environment's proxies.

    `trusted_hosts` are asked without checking certificates, as pip's `trusted-host` says. Threads may share it.
    """

    def __init__(
        self,
        *,
        cert: Path | None = None,
        trusted_hosts: tuple[str, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cert, self.trusted_hosts = cert, trusted_hosts
        self.guard = threading.Lock()
        self.sleep = sleep
        self.down: dict[str, str] = {}  # host -> why it isn't asked again

    @functools.cached_property
    def client(self) -> httpx.Client:
        """Opened when it is first used: most locks find everything in the cache."""
        client = open_client(self.cert, self.trusted_hosts)
        weakref.finalize(self, client.close)
        return client

    @functools.cached_property
    def netrc(self) -> httpx.Auth | None:
        return netrc_auth()

    def get(self, url: str, *, accept: str = "*/*") -> Page | None:
        """Fetch a small page; None when there is none. Raises FetchError."""
        with self.response(url, {"Accept": accept}) as response:
            if response is None:
                return None
            try:
                response.read()
            except response_errors() as e:
                raise FetchError(f"{shown(url)}: {reason(e)}", hint=NETWORK) from e
            return Page(
                text=response.text, content_type=response.headers.get("content-type", ""), url=str(response.url)
            )

    @contextlib.contextmanager
    def stream(self, url: str) -> Iterator[Stream | None]:
        """Open a file; None when there is none. Raises FetchError, also while the stream is read."""
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(self.response(url, {"Accept-Encoding": "identity"}))
            yield Resuming(self, url, first, stack) if first is not None else None

    @contextlib.contextmanager
    def response(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response | None]:
        """Send a request until it is answered for good or the tries are used up."""
        response = self.ask(url, headers)
        try:
            yield None if response.status_code in GONE else response
        finally:
            response.close()

    def ask(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        host = urlsplit(url).netloc.rpartition("@")[2]
        if host in self.down:
            raise FetchError(f"{shown(url)}: {self.down[host]}", hint=NETWORK)
        for number in range(TRIES):
            last = number == TRIES - 1
            try:
                response = self.send(url, headers)
            except response_errors() as e:
                if last or hopeless(e):
                    self.down[host] = reason(e)
                    raise FetchError(f"{shown(url)}: {reason(e)}", hint=NETWORK) from e
                self.pause(number)
                continue
            if last or response.status_code not in AGAIN:
                return accepted(url, response)
            response.close()
            self.pause(number, response.headers.get("retry-after", ""))
        raise AssertionError("the last try returns or raises")

    def send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """Send one request. The login goes beside the URL, because the client logs URLs."""
        import httpx

        with self.guard:
            client, netrc = self.client, self.netrc
        bare, login = split_login(url)
        auth = httpx.BasicAuth(login.user, login.password) if login else netrc
        return client.send(client.build_request("GET", bare, headers=headers), auth=auth, stream=True)

    def pause(self, number: int, retry_after: str = "") -> None:
        """Wait longer after each failure, by chance more or less, so that many clients don't come back at once."""
        asked = float(retry_after) if retry_after.isdigit() else 0.0
        own = FIRST_PAUSE_S * 2**number * random.uniform(0.5, 1.0)
        self.sleep(min(LONGEST_PAUSE_S, max(asked, own)))


class Resuming:
    """The body of a file. When the connection is cut it asks for the rest (RFC 9110, section 14: range requests)."""

    def __init__(self, http: Http, url: str, first: httpx.Response, stack: contextlib.ExitStack) -> None:
        self.http, self.url, self.stack = http, url, stack
        self.validator = strong_validator(first.headers)
        self.chunks = first.iter_raw()  # as they come: a size would hold bytes back that are lost when it is cut
        self.offset = 0
        self.cuts = 0

    def read(self, size: int, /) -> bytes:
        failures = 0
        while True:
            try:
                chunk = next(self.chunks, b"")
                self.offset += len(chunk)
                return chunk
            except response_errors() as e:
                self.cuts += 1
                if failures >= TRIES or self.cuts > RESUMES:
                    message = f"{shown(self.url)}: cut after {self.offset} bytes, again and again: {reason(e)}"
                    raise FetchError(message, hint=NETWORK) from e
                self.http.pause(failures)
                failures += 1
                self.resume()

    def resume(self) -> None:
        """Ask for what is missing; a server that sends the whole file again is read up to where we were."""
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={self.offset}-"}
        if self.validator:
            headers["If-Range"] = self.validator
        response = self.stack.enter_context(self.http.response(self.url, headers))
        if response is None:
            raise FetchError(f"{shown(self.url)}: vanished while it was read", hint=NETWORK)
        if response.status_code == 206:
            self.chunks = response.iter_raw()
        else:
            self.chunks = skip(response.iter_raw(), self.offset)


def skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Drop the first `count` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(0, count - len(chunk))


def accepted(url: str, response: httpx.Response) -> httpx.Response:
    """Return an answer that can be used, or raise FetchError."""
    code = response.status_code
    if code in (200, 206) or code in GONE:
        return response
    response.close()
    hint = LOGIN if code in CLOSED else "try again later"
    raise FetchError(f"{shown(url)}: the server answered {code} {response.reason_phrase}", hint=hint)


def strong_validator(headers: Mapping[str, str]) -> str | None:
    """Return what If-Range may hold: an ETag that isn't weak (RFC 9110, section 13.1.5)."""
    etag = headers.get("etag", "")
    return etag if etag and not etag.startswith("W/") else None


def open_client(cert: Path | None, trusted_hosts: tuple[str, ...]) -> httpx.Client:
    import httpx

    context = ssl.create_default_context()
    if cert and cert.is_dir():
        context.load_verify_locations(capath=str(cert))
    elif cert and cert.is_file():
        context.load_verify_locations(cafile=str(cert))
    mounts = {f"https://{host}": httpx.HTTPTransport(verify=False) for host in trusted_hosts}
    return httpx.Client(verify=context, timeout=TIMEOUT_S, follow_redirects=True, mounts=mounts)


def netrc_auth() -> httpx.Auth | None:
    """Return what ~/.netrc (or $NETRC) says, or None when there is none that can be read."""
    import netrc
    import os

    import httpx

    try:
        return httpx.NetRCAuth(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return None


def response_errors() -> tuple[type[Exception], ...]:
    """The errors that speak of the network. The client is imported when it is first needed."""
    import httpx

    return (httpx.TransportError, httpx.TooManyRedirects, httpx.InvalidURL, httpx.StreamError)


def hopeless(error: Exception) -> bool:
    """Tell an error that no second try mends: a refused certificate, a URL that isn't one."""
    import httpx

    return isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol) or "CERTIFICATE_VERIFY" in str(error)


def reason(error: Exception) -> str:
    return str(error) or type(error).__name__
