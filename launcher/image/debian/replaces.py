"""The relations of Replaces: whether one package may write over another's files (Policy 7.6.1)."""

from __future__ import annotations

import re

from launcher.lock.debian_version import holds

RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^)\s]+)\s*\))?")


def names_in(field: str, name: str, version: str) -> bool:
    """Tell whether a relation field such as Replaces covers package `name` at `version`."""
    for clause in field.replace("\n", " ").split(","):
        found = RELATION.match(clause.strip())
        if found and found[1] == name and (not found[2] or holds(version, found[2], found[3])):
            return True
    return False
