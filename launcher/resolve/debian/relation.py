"""Relations between packages (Policy, chapter 7): `a (>= 1) | b, c:any [amd64]` as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

RELATION = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::(?P<qualifier>[a-z0-9-]+))?\s*"
    r"(?:\(\s*(?P<operator><<|<=|>=|>>|=|<|>)\s*(?P<version>[^\s)]+)\s*\)\s*)?"
    r"(?:\[(?P<architectures>[^\]]*)\]\s*)?(?:<[^>]*>\s*)*"
)


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One alternative: a name, perhaps with a version. `qualifier` is "any", an architecture, or ""."""

    name: str
    operator: str = ""
    version: str = ""
    qualifier: str = ""

    def __str__(self) -> str:
        name = f"{self.name}:{self.qualifier}" if self.qualifier else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name


Group = tuple[Relation, ...]
"""Alternatives, the preferred one first: one of them must hold."""


@lru_cache(maxsize=65536)
def parse_relations(text: str, architecture: str) -> tuple[Group, ...]:
    """Read a relation field. Alternatives restricted to other architectures are dropped. Raises ValueError."""
    groups = (parse_group(part, architecture) for part in text.split(",") if part.strip())
    return tuple(group for group in groups if group)


def parse_group(text: str, architecture: str) -> Group:
    found = []
    for part in text.split("|"):
        match = RELATION.fullmatch(part)
        if not match:
            raise ValueError(f"`{part.strip()}` is not a package relation")
        if applies(match["architectures"], architecture):
            found.append(
                Relation(
                    name=match["name"],
                    operator=match["operator"] or "",
                    version=match["version"] or "",
                    qualifier=match["qualifier"] or "",
                )
            )
    return tuple(found)


def applies(architectures: str | None, architecture: str) -> bool:
    """Read `[amd64 arm64]` or `[!i386]` (Policy 7.1)."""
    words = (architectures or "").split()
    names = {word.lstrip("!") for word in words}
    if words and words[0].startswith("!"):
        return not names & {architecture, "linux-any", "any"}
    return not words or bool(names & {architecture, "linux-any", "any", f"any-{architecture}", f"linux-{architecture}"})
