"""Requests to package mirrors: conditional ones and streams, with apt's proxy and passwords, which are never shown.

The standard library's client is used because a warm lock asks three small questions and nothing else: importing
a richer client would cost more time than the questions (measured: 0.2 s against 0.07 s).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener, getproxies
from urllib.response import addinfourl

from launcher.credentials import shown, split_login
from launcher.errors import FetchError
from launcher.indexes.apt import AptConfig

TIMEOUT_S = 30
TRIES = 3
GONE = (404, 410)
REFUSED = (401, 403, 407)
PAUSE_S = 0.3
NETWORK_ERRORS = (URLError, OSError, http.client.HTTPException)
LARGEST_BODY_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server said. `body` is None when nothing changed since the validators were noted."""

    body: bytes | None
    etag: str | None = None
    modified: str | None = None


class NotModifiedError(Exception):
    """The file is what the validators say (HTTP 304)."""


class Web:
    """A client for the mirrors of one apt configuration."""

    def __init__(self, config: AptConfig) -> None:
        self.logins = config.logins
        self.opener = open_proxies(config)

    def get(self, url: str, *, etag: str | None = None, modified: str | None = None) -> Answer | None:
        """Fetch a file whole; None when the server has none. Raises FetchError."""
        try:
            response = self.open(url, {"If-None-Match": etag, "If-Modified-Since": modified})
        except NotModifiedError:
            return Answer(body=None, etag=etag, modified=modified)
        if response is None:
            return None
        with response, told(url):
            body = response.read(LARGEST_BODY_BYTES)
            return Answer(body=body, etag=response.headers.get("ETag"), modified=response.headers.get("Last-Modified"))

    @contextlib.contextmanager
    def stream(self, url: str) -> Iterator[Resuming | None]:
        """Open a file for reading in pieces; give None when the server has none. Raises FetchError, also in reading."""
        stream = Resuming(self, url)
        try:
            yield stream if stream.begin() else None
        finally:
            stream.close()

    def open(self, url: str, headers: dict[str, str | None]) -> addinfourl | None:
        """Send a request until it is answered; None when the server has no such file. Raises FetchError."""
        for left in reversed(range(TRIES)):
            try:
                return cast(addinfourl, self.opener.open(self.request(url, headers), timeout=TIMEOUT_S))
            except HTTPError as e:
                if e.code in GONE:
                    return None
                if e.code == 304:
                    raise NotModifiedError from None
                if e.code < 500 or not left:
                    raise refused(url, e) from e
            except NETWORK_ERRORS as e:
                if is_missing_file(e):
                    return None
                if not left:
                    raise unreachable(url, e) from e
            time.sleep(PAUSE_S * (TRIES - left))
        raise AssertionError("the last try returns or raises")

    def request(self, url: str, headers: dict[str, str | None]) -> Request:
        """Make a request; a password travels to the host it was given for, and not along with a redirect."""
        bare, own = split_login(url)
        made = Request(bare, headers={name: value for name, value in headers.items() if value})
        login = own or next((login for machine, login in self.logins if fits(machine, bare)), None)
        if login:
            token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
            made.add_unredirected_header("Authorization", f"Basic {token}")
        return made


class Resuming:
    """A file's bytes in order. A connection that breaks is made anew from where it broke, if the server can do that."""

    def __init__(self, web: Web, url: str) -> None:
        self.web = web
        self.url = url
        self.response: addinfourl | None = None
        self.offset = 0
        self.left = 0  # bytes that are still to come, when the server tells
        self.tries = TRIES

    def begin(self) -> bool:
        """Ask for the file; tell whether it is there."""
        self.response = self.web.open(self.url, {})
        self.left = int(self.response.headers.get("Content-Length") or 0) if self.response else 0
        return self.response is not None

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end. Raises FetchError."""
        while self.response is not None:
            try:
                data = self.response.read(size)
                if not data and self.left > 0:
                    raise ConnectionError(f"the connection broke {self.left} bytes before the end")
                break
            except NETWORK_ERRORS as e:
                self.go_on(e)
        else:
            return b""
        self.offset += len(data)
        self.left -= len(data)
        return data

    def go_on(self, broke: Exception) -> None:
        """Ask for the rest. Raises FetchError after too many breaks, or when the server can only begin anew."""
        self.tries -= 1
        self.close()
        if self.tries > 0:
            self.response = self.web.open(self.url, {"Range": f"bytes={self.offset}-"})
        if self.response is None or (self.offset and self.response.status != 206):
            raise unreachable(self.url, broke) from broke

    def close(self) -> None:
        if self.response is not None:
            self.response.close()
        self.response = None


@contextlib.contextmanager
def told(url: str) -> Iterator[None]:
    """Turn a break while reading into a FetchError."""
    try:
        yield
    except NETWORK_ERRORS as e:
        raise unreachable(url, e) from e


def open_proxies(config: AptConfig) -> OpenerDirector:
    """Use apt's proxies (apt.conf(5): Acquire::http::Proxy, "DIRECT" for none), else those of the environment."""
    proxies = getproxies()
    for scheme in ("http", "https"):
        said = config.options.get(f"acquire::{scheme}::proxy")
        if said and said != "DIRECT":
            proxies[scheme] = said
        elif said:
            proxies.pop(scheme, None)
    return build_opener(ProxyHandler(proxies))


def fits(machine: str, url: str) -> bool:
    """Tell whether a password is for this URL. Without a scheme it is for https only (apt_auth.conf(5))."""
    scheme, marker, rest = machine.rpartition("://")
    parts = urlsplit(url)
    host, slash, path = rest.partition("/")
    if (scheme if marker else "https") != parts.scheme or host not in (parts.netloc, parts.hostname):
        return False
    return parts.path.startswith(slash + path)


def is_missing_file(error: Exception) -> bool:
    """Tell a file: URL of nothing from other trouble."""
    reason = error.reason if isinstance(error, URLError) else error
    return isinstance(reason, FileNotFoundError) or "No such file" in str(reason)


def refused(url: str, error: HTTPError) -> FetchError:
    hint = "check the credentials in apt's sources or auth.conf" if error.code in REFUSED else "try again later"
    return FetchError(f"{shown(url)}: the server answered {error.code} {error.reason}", hint=hint)


def unreachable(url: str, error: Exception) -> FetchError:
    reason = error.reason if isinstance(error, URLError) else error
    return FetchError(
        f"can't fetch {shown(url)}: {reason or type(error).__name__}",
        hint="check the network and the proxy, or name another mirror in LAUNCHER_APT_SOURCES",
    )
