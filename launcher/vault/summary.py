"""What a vault holds, lock by lock: how big each is, and how much of that no other lock needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from launcher.lock import Lock
from launcher.store.objects import Store
from launcher.vault.contents import Wanted, files, unnamed, wanted
from launcher.vault.locks import Kept, kept, sound
from launcher.vault.verifying import sizes_of

SHOWN_REQUIREMENTS = 4


@dataclass(frozen=True, kw_only=True)
class LockLine:
    """A lock of a vault. Sizes in bytes: `size` is what is there of it, `own` what no other lock here needs.

    `missing` counts the files that it needs and the vault hasn't got; `kept` tells that somebody put them in.
    """

    digest: str
    modified: datetime
    about: str
    image: str | None
    files: int
    missing: int
    kept: bool
    size: int
    own: int


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """A whole vault. `other` are the files that no lock names: code, patches, inputs."""

    locks: tuple[LockLine, ...]
    files: int
    size: int
    other: int
    other_size: int


def holdings(store: Store) -> Holdings:
    """Tell what a vault holds. Raises StoreError."""
    sizes, found = sizes_of(store, None), kept(store)
    users = Counter(a.sha256 for lock in sound(found).values() for a in files(lock))
    other = [size for sha256, size in sizes.items() if sha256 not in users]
    return Holdings(
        locks=tuple(line(one, sizes, users) for one in found),
        files=len(sizes),
        size=sum(sizes.values()),
        other=len(other),
        other_size=sum(other),
    )


def line(one: Kept, sizes: Mapping[str, int], users: Mapping[str, int]) -> LockLine:
    needed = [a.sha256 for a in files(one.lock)] if one.lock else []
    there = [sha256 for sha256 in needed if sha256 in sizes]
    return LockLine(
        digest=one.digest,
        modified=one.modified,
        about=about(one.lock) if one.lock else one.trouble or "",
        image=one.lock.image.id if one.lock and one.lock.image else None,
        files=len(needed),
        missing=len(needed) - len(there),
        kept=one.whole,
        size=sum(sizes[sha256] for sha256 in there),
        own=sum(sizes[sha256] for sha256 in there if users[sha256] == 1),
    )


def about(lock: Lock) -> str:
    """Say what a lock is by what was asked for: base, Python, the first requirements."""
    base = lock.inputs.base or "a Containerfile"
    python = f"Python {lock.python}" if lock.python else None
    asked = [*lock.inputs.pip, *lock.inputs.apt]
    more = f"and {len(asked) - SHOWN_REQUIREMENTS} more" if len(asked) > SHOWN_REQUIREMENTS else None
    return ", ".join(filter(None, (base, python, *asked[:SHOWN_REQUIREMENTS], more)))


def artifacts(store: Store) -> list[tuple[Wanted, int]]:
    """Return every artifact of a vault with its size in bytes, the biggest first."""
    sizes, needed = sizes_of(store, None), wanted(sound(kept(store)))
    found = [(needed.get(sha256) or unnamed(sha256, size), size) for sha256, size in sizes.items()]
    return sorted(found, key=lambda one: (-one[1], one[0].artifact.sha256))
