"""Debian's order of versions (Policy 5.6.12; deb-version(7))."""

from __future__ import annotations

import re
from functools import lru_cache

PART = re.compile(r"([^0-9]*)([0-9]*)")
ENDED = 0
Part = tuple[tuple[int, ...], int]
Key = tuple[int, tuple[Part, ...], tuple[Part, ...]]


def split(version: str) -> tuple[int, str, str]:
    """Return (epoch, upstream version, Debian revision); a missing revision is "0", which compares the same."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return int(epoch) if epoch.isdigit() else 0, upstream, revision


@lru_cache(maxsize=65536)
def key(version: str) -> Key:
    """Return a sort key: `key(a) < key(b)` says that version `a` is earlier than `b`."""
    epoch, upstream, revision = split(version)
    return epoch, parts(upstream), parts(revision)


def parts(text: str) -> tuple[Part, ...]:
    """Split into non-digits and number, by turns. The tilde sorts before the end, letters before the rest."""
    # findall ends with an empty match: it stands for the end of the text, which is later than a tilde
    return tuple((order(word), int(number or 0)) for word, number in PART.findall(text or "0"))


def order(word: str) -> tuple[int, ...]:
    return (*(-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in word), ENDED)


def holds(version: str, operator: str, other: str) -> bool:
    """Tell whether `version operator other`, with an operator of Policy 7.1; `<` and `>` are the old `<=` and `>=`."""
    if version == other:
        return operator not in ("<<", ">>")
    mine, theirs = key(version), key(other)
    if operator == "=":
        return mine == theirs
    if operator == "<<":
        return mine < theirs
    if operator == ">>":
        return mine > theirs
    return mine <= theirs if operator in ("<=", "<") else mine >= theirs
