"""What may move when a spec is locked again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """`all` lets every pin move, `packages` those of these names; everything else stays as it is pinned."""

    all: bool = False
    packages: frozenset[str] = frozenset()


KEEP = Upgrade()
