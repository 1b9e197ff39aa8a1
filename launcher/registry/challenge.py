"""What a registry asks of who comes: the WWW-Authenticate header (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
PARAM = re.compile(rf'\s*({TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({TOKEN}))\s*')
SCHEME = re.compile(rf"\s*({TOKEN})(?=\s|,|$)")


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One way in. `scheme` is lower case, as are the names of the parameters."""

    scheme: str
    params: Mapping[str, str] = field(default_factory=dict)


def challenges(header: str) -> list[Challenge]:
    """Read a header that may hold several challenges; what can't be read ends the list."""
    found: list[Challenge] = []
    at = 0
    while match := SCHEME.match(header, at):
        params, at = parameters(header, match.end())
        found.append(Challenge(scheme=match[1].lower(), params=params))
    return found


def parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    """Read `name="value", ...` from a place on; return them and where they end."""
    found: dict[str, str] = {}
    while match := PARAM.match(header, at):
        found[match[1].lower()] = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        at = match.end()
        if not header.startswith(",", at):
            break
        at += 1
    return found, at
