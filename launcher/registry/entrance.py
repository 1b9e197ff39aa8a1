"""The way into a registry: anonymous, by user and password, or by short-lived tokens that are fetched when needed.

Source: distribution's "Token Authentication Specification" and "Oauth2 Token Authentication" (distribution.github.io).
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from launcher.credentials import Login, shown
from launcher.errors import LauncherError
from launcher.registry.challenge import Challenge, challenges
from launcher.registry.login import Credentials
from launcher.registry.settings import Place

CLIENT_ID = "launcher"
TOKEN_LIFE_S = 60.0  # where the server doesn't say ("Token Authentication Specification", expires_in)
EARLY = 0.1  # of a token's life: renewed so long before its end


class Answer(Protocol):
    """What a token server said."""

    @property
    def status_code(self) -> int: ...
    @property
    def content(self) -> bytes: ...


Ask = Callable[[str, str, Mapping[str, str], bytes | None], Answer]
"""Sends (method, URL, headers, body) without any login and returns the whole answer."""


class Entrance:
    """Knows which Authorization header to send. Threads may share it; no secret is in its repr."""

    def __init__(
        self,
        place: Place,
        scopes: tuple[str, ...],
        ask: Ask,
        find: Callable[[], Credentials | None],
        error: type[LauncherError],
    ) -> None:
        self.place, self.scopes, self.ask, self.find, self.error = place, scopes, ask, find, error
        self.guard = threading.Lock()
        self.header: str | None = None
        self.until = float("inf")
        self.bearer: Challenge | None = None

    def current(self) -> str | None:
        """Return the header to send; a token that is about to end is renewed first."""
        with self.guard:
            if self.bearer and time.monotonic() >= self.until:
                self.renew(self.bearer)
            return self.header

    def answer(self, told: str, sent: str | None) -> str | None:
        """Meet a 401's challenge; return the header to send now, or None when there is no other than `sent`.

        Raises the entrance's error when a server of tokens refuses the login, or gives none.
        """
        with self.guard:
            if self.header == sent:  # else another thread was faster
                offered = {challenge.scheme: challenge for challenge in reversed(challenges(told))}
                if "bearer" in offered:
                    self.bearer = offered["bearer"]
                    self.renew(self.bearer)
                elif "basic" in offered and sent is None and (login := self.login()):
                    self.header = basic(login)
            return self.header if self.header != sent else None

    def login(self) -> Login | None:
        found = self.find()
        return found.login if found else None

    def renew(self, challenge: Challenge) -> None:
        """Fetch a token for our scopes and those of the challenge."""
        realm = challenge.params.get("realm", "")
        scheme = urlsplit(realm).scheme
        if scheme != "https" and not (scheme == "http" and self.place.insecure):
            host = self.place.reference.host
            message = f"{host} names `{shown(realm)}` as the place that gives tokens: no login goes there"
            raise self.error(message, hint="it has to be an https:// URL")
        found = self.find()
        asked = sorted({*self.scopes, *challenge.params.get("scope", "").split()})
        if found and found.identity_token:
            answer = self.by_identity_token(realm, challenge, asked, found.identity_token)
        else:
            answer = self.by_login(realm, challenge, asked, found.login if found else None)
        self.take(answer, realm, found)

    def by_login(self, realm: str, challenge: Challenge, scopes: list[str], login: Login | None) -> Answer:
        fields = [("service", challenge.params["service"])] if "service" in challenge.params else []
        fields += [("scope", scope) for scope in scopes]
        fields += [("account", login.user), ("client_id", CLIENT_ID)] if login else []
        joint = "&" if urlsplit(realm).query else "?"
        return self.ask(
            "GET", realm + joint + urlencode(fields), {"Authorization": basic(login)} if login else {}, None
        )

    def by_identity_token(self, realm: str, challenge: Challenge, scopes: list[str], token: str) -> Answer:
        fields = {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT_ID}
        fields |= {"service": challenge.params.get("service", ""), "scope": " ".join(scopes)}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", realm, kind, urlencode(fields).encode())

    def take(self, answer: Answer, realm: str, found: Credentials | None) -> None:
        """Keep the token of an answer. Nothing of the answer is ever in a message: it may hold the token."""
        host = self.place.reference.host
        if answer.status_code in (400, 401, 403):
            raise refused(self.place, found, self.error)
        try:
            told = json.loads(answer.content) if answer.status_code == 200 else {}
            token = str(told.get("token") or told["access_token"])
            life = float(told.get("expires_in") or TOKEN_LIFE_S)
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"{shown(realm)}, which gives tokens for {host}, answered {answer.status_code} and no token"
            raise self.error(message, hint="try again later") from None
        self.header, self.until = f"Bearer {token}", time.monotonic() + life * (1 - EARLY)


def basic(login: Login) -> str:
    """Return an Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()


def refused(place: Place, found: Credentials | None, error: type[LauncherError], said: str = "") -> LauncherError:
    """Say that a registry doesn't let us in, which login it was, and what the registry `said`."""
    host, repository = place.reference.host, place.reference.repository
    again = f"`docker login {host}` or `podman login {host}`; their login files are read here"
    if found is None:
        return error(f"{host} wants a login for {repository}, and this machine has none{said}", hint=f"log in: {again}")
    message = f"{host} refused the login of {found.place} for {repository}{said}"
    return error(message, hint=f"log in again: {again}; or ask for the right to use this repository")
