"""The locks of a store, read back: each is known by the sha256 of its bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from launcher.digest import sha256_bytes
from launcher.errors import LockError
from launcher.lock import Lock, loads
from launcher.store import keys
from launcher.store.objects import Store

PREFIX = "locks/"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A lock of a store. `lock` is None when it can't be read, and `trouble` then says why.

    `whole` tells that its files were put in as well: of a lock that a run used only the text is there, unless
    somebody adds it to the vault.
    """

    digest: str
    modified: datetime
    data: bytes
    lock: Lock | None
    trouble: str | None = None
    whole: bool = False


def kept(store: Store) -> list[Kept]:
    """Return all locks of a store, oldest first. Raises StoreError."""
    entries = {entry.key: entry for entry in store.list(PREFIX)}
    found = []
    for key, data in store.get_many([key for key in entries if key.endswith(".lock")]):
        if data is not None:
            one = read(key.removeprefix(PREFIX).removesuffix(".lock"), entries[key].modified, data)
            found.append(replace(one, whole=keys.kept(one.digest) in entries))
    return sorted(found, key=lambda one: (one.modified, one.digest))


def read(digest: str, modified: datetime, data: bytes) -> Kept:
    """Read a lock, and check that it is the one that its name says."""
    if (actual := sha256_bytes(data)) != digest:
        trouble = f"is damaged: it has the sha256 {actual}"
        return Kept(digest=digest, modified=modified, data=data, lock=None, trouble=trouble)
    try:
        lock = loads(data.decode(), f"the lock {digest[:12]}")
    except (LockError, UnicodeDecodeError) as e:
        return Kept(digest=digest, modified=modified, data=data, lock=None, trouble=f"can't be read: {e}")
    return Kept(digest=digest, modified=modified, data=data, lock=lock)


def sound(found: list[Kept], *, whole: bool = False) -> dict[str, Lock]:
    """Return the locks that can be read, by digest; with `whole` those whose files were put in too."""
    return {one.digest: one.lock for one in found if one.lock is not None and (one.whole or not whole)}
