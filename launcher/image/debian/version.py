"""Debian version numbers and the relations of Replaces, as Debian Policy 5.6.12 and 7.1 define them."""

from __future__ import annotations

import re
from itertools import zip_longest

PARTS = re.compile(r"(\D*)(\d*)")
RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^)\s]+)\s*\))?")


def compare(a: str, b: str) -> int:
    """Return a number below, at or above zero as version `a` is earlier than, the same as or later than `b`."""
    for one, other in zip(split(a), split(b), strict=True):
        if one != other and (result := compare_part(one, other)):
            return result
    return 0


def split(version: str) -> tuple[str, str, str]:
    """Split into epoch, upstream version and revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "0")


def compare_part(a: str, b: str) -> int:
    """Compare pieces of letters and pieces of digits in turn (Policy 5.6.12)."""
    for (text, digits), (other_text, other_digits) in zip_longest(
        PARTS.findall(a), PARTS.findall(b), fillvalue=("", "")
    ):
        left, right = [*map(rank, text), 0], [*map(rank, other_text), 0]
        if left != right:
            return -1 if left < right else 1
        if difference := int(digits or 0) - int(other_digits or 0):
            return difference
    return 0


def rank(character: str) -> int:
    """A tilde sorts before the end, letters before everything else."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def names_in(field: str, name: str, version: str) -> bool:
    """Tell whether a relation field such as Replaces covers package `name` at `version`."""
    for clause in field.replace("\n", " ").split(","):
        found = RELATION.match(clause.strip())
        if found and found[1] == name and (not found[2] or holds(compare(version, found[3]), found[2])):
            return True
    return False


def holds(order: int, operator: str) -> bool:
    """`<` and `>` are the old spellings of `<=` and `>=` (Policy 7.1)."""
    return {
        "<<": order < 0,
        "<=": order <= 0,
        "<": order <= 0,
        "=": order == 0,
        ">=": order >= 0,
        ">": order >= 0,
        ">>": order > 0,
    }[operator]
