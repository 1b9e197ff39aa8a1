"""Requests to one repository of a registry: the right scheme, the way in, redirects, and bounded retries."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from launcher.credentials import shown
from launcher.errors import FetchError, LauncherError
from launcher.registry.entrance import Entrance, refused
from launcher.registry.login import Credentials, find_credentials
from launcher.registry.reference import is_loopback
from launcher.registry.settings import Place
from launcher.registry.tls import hopeless, network_errors, open_client

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)
TRIES = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.4, 60.0
PROBE_S = 10.0
MOST_REDIRECTS = 5
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
NETWORK = "check the network, the proxy settings and the registry's name"
SAID_BYTES = 64 * 1024
Body = bytes | Callable[[], Iterable[bytes]]
"""What is sent; a function gives it anew for each try."""


class Session:
    """Speaks to one repository. Threads may share it. `error` is what its troubles are raised as."""

    def __init__(
        self,
        place: Place,
        *,
        scopes: tuple[str, ...] = (),
        error: type[LauncherError] = FetchError,
        environ: Mapping[str, str] = os.environ,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place, self.reference, self.error = place, place.reference, error
        self.environ, self.sleep = environ, sleep
        self.guard = threading.RLock()
        own = f"repository:{self.reference.name}:pull"
        self.entrance = Entrance(place, scopes or (own,), self.ask_plainly, self.credentials, error)

    def credentials(self) -> Credentials | None:
        with self.guard:
            return self.found

    @functools.cached_property
    def found(self) -> Credentials | None:
        return find_credentials(self.reference, self.environ)

    @functools.cached_property
    def client(self) -> httpx.Client:
        client = open_client(self.reference.endpoint, insecure=self.place.insecure, environ=self.environ)
        weakref.finalize(self, client.close)
        return client

    @functools.cached_property
    def root(self) -> str:
        """`https://host`; an insecure registry is asked which of both it speaks, before any login is sent."""
        endpoint = self.reference.endpoint
        if not self.place.insecure:
            return f"https://{endpoint}"
        first, second = ("http", "https") if is_loopback(endpoint) else ("https", "http")
        return f"{first if self.speaks(f'{first}://{endpoint}') else second}://{endpoint}"

    def speaks(self, root: str) -> bool:
        """Tell whether a registry answers there. A TLS port that is asked in clear answers 400 or not at all."""
        try:
            answer = self.client.get(f"{root}/v2/", timeout=PROBE_S)
        except network_errors() as e:
            log.debug("%s: %s", root, e)
            return False
        return answer.status_code not in (400, *REDIRECTS)

    def url(self, path: str) -> str:
        """Return the URL of something of this repository, as "blobs/uploads/"."""
        with self.guard:
            return f"{self.root}/v2/{self.reference.name}/{path}"

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        tries: int = TRIES,
    ) -> Iterator[httpx.Response]:
        """Send a request until it is answered for good or the tries are used up; its body is still to be read.

        Answers that say 401 or 403 are raised as errors; every other is the caller's to judge.
        """
        response = self.ask(method, url, headers or {}, body, tries)
        try:
            if response.status_code in (401, 403):
                raise self.closed(response)
            yield response
        finally:
            response.close()

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: Body | None, tries: int) -> httpx.Response:
        for number in range(tries):
            last = number == tries - 1
            try:
                response = self.send(method, url, headers, body)
            except network_errors() as e:
                if last or hopeless(e):
                    raise self.error(f"{shown(url)}: {reason(e)}", hint=NETWORK) from e
                self.pause(number)
                continue
            if last or response.status_code not in AGAIN:
                return response
            response.close()
            self.pause(number, response.headers.get("retry-after", ""))
        raise AssertionError("the last try returns or raises")

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> httpx.Response:
        """Send one request with the login that the registry wants; a refused one is renewed once."""
        header = self.entrance.current() if self.own(url) else None
        response = self.send_bare(method, url, headers, body, header)
        if response.status_code == 401 and self.own(url):
            told = response.headers.get("www-authenticate", "")
            if told and (other := self.entrance.answer(told, header)):
                response.close()
                return self.send_bare(method, url, headers, body, other)
        return response

    def send_bare(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, header: str | None
    ) -> httpx.Response:
        """Send one request and follow where reads are sent. The login stays with the registry."""
        client = self.opened()
        for _ in range(MOST_REDIRECTS):
            whole = {**headers, **({"Authorization": header} if header and self.own(url) else {})}
            content = body() if callable(body) else body
            response = client.send(client.build_request(method, url, headers=whole, content=content), stream=True)
            place = response.headers.get("location")
            if method not in ("GET", "HEAD") or response.status_code not in REDIRECTS or not place:
                return response
            response.close()
            url = self.next_url(url, place)
        raise self.error(f"{shown(url)}: redirected again and again", hint=NETWORK)

    def opened(self) -> httpx.Client:
        with self.guard:
            return self.client

    def next_url(self, url: str, place: str) -> str:
        """Return where a redirect leads; out of TLS it is not followed."""
        found = urljoin(url, place)
        if urlsplit(found).scheme != "https" and not (self.place.insecure and urlsplit(url).scheme == "http"):
            raise self.error(f"{shown(url)} leads to {shown(found)}, which is not https", hint="that is not followed")
        return found

    def own(self, url: str) -> bool:
        """Tell whether a URL is the registry's own: nobody else gets its login."""
        with self.guard:
            mine, other = urlsplit(self.root), urlsplit(url)
        return (mine.scheme, mine.netloc) == (other.scheme, other.netloc)

    def ask_plainly(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> httpx.Response:
        """Ask a server of tokens: no login of ours but what `headers` hold, no redirects."""
        for number in range(TRIES):
            try:
                client = self.opened()
                answer = client.send(client.build_request(method, url, headers=headers, content=body))
            except network_errors() as e:
                if number == TRIES - 1 or hopeless(e):
                    raise self.error(f"{shown(url)}: {reason(e)}", hint=NETWORK) from e
                self.pause(number)
                continue
            if answer.status_code not in AGAIN:
                return answer
            self.pause(number, answer.headers.get("retry-after", ""))
        return answer

    def pause(self, number: int, retry_after: str = "") -> None:
        """Wait longer after each failure, by chance more or less, so that many clients don't come back at once."""
        own = FIRST_PAUSE_S * 2**number * random.uniform(0.5, 1.0)
        self.sleep(min(LONGEST_PAUSE_S, max(seconds(retry_after), own)))

    def closed(self, response: httpx.Response) -> LauncherError:
        return refused(self.place, self.credentials(), self.error, words_of(response))

    def failure(self, what: str, response: httpx.Response) -> LauncherError:
        """Say that the registry answered something that is no use, in its own words."""
        code = f"{response.status_code} {response.reason_phrase}".strip()
        message = f"{what}: the registry answered {code}{words_of(response)}"
        return self.error(message, hint="try again later, or ask who runs it")


def words_of(response: httpx.Response) -> str:
    """Return what an answer says of its errors, or nothing; it may be cut, too."""
    with contextlib.suppress(*network_errors()):
        return said(response.read()[:SAID_BYTES])
    return ""


def said(body: bytes) -> str:
    """Return the errors of an answer (OCI Distribution Specification 1.1, "Error codes"), or nothing."""
    import json

    try:
        errors = json.loads(body)["errors"]
        words = [f"{error['code']}: {error.get('message') or ''}".rstrip(": ") for error in errors]
    except (ValueError, KeyError, TypeError):
        return ""
    return " (" + "; ".join(words)[:300] + ")" if words else ""


def seconds(retry_after: str) -> float:
    """Read Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def reason(error: Exception) -> str:
    return str(error) or type(error).__name__
