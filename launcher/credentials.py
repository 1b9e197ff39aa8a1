"""Keep logins out of everything that is shown: messages, logs, locks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit, urlunsplit

LOGIN_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
QUERY_IN_URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#]+)\?[^\s#\"'`>)]*")


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user name and a password; neither is in its repr."""

    user: str = field(repr=False)
    password: str = field(repr=False)


def split_login(url: str) -> tuple[str, Login | None]:
    """Take `user:password@` out of a URL."""
    parts = urlsplit(url)
    said, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = said.partition(":")
    return urlunsplit(parts._replace(netloc=host)), Login(user=unquote(user), password=unquote(password))


def with_login(url: str, login: Login | None) -> str:
    """Put a login into a URL that has none."""
    parts = urlsplit(url)
    if login is None or "@" in parts.netloc:
        return url
    return urlunsplit(
        parts._replace(netloc=f"{quote(login.user, safe='')}:{quote(login.password, safe='')}@{parts.netloc}")
    )


def shown(url: str) -> str:
    """Return a URL that may be printed: no login, no query, no fragment."""
    parts = urlsplit(split_login(url)[0])
    return urlunsplit(parts._replace(query="", fragment=""))


def redact(text: str, urls: tuple[str, ...] = ()) -> str:
    """Take logins and queries out of every URL in a text, and the passwords of `urls` wherever they stand."""
    clean = QUERY_IN_URL.sub(r"\1", LOGIN_IN_URL.sub("", text))
    for url in urls:
        raw = urlsplit(url).netloc.rpartition("@")[0].partition(":")[2]
        for secret in {raw, unquote(raw)}:
            if len(secret) >= 4:  # shorter ones would blacken ordinary words
                clean = clean.replace(secret, "****")
    return clean
