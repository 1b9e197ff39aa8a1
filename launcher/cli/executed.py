"""What was executed once, for a lock: brought back from a vault where that can be, explained where it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError, Problem, StoreError
from launcher.lock import Artifact, Lock
from launcher.progress import Progress
from launcher.spec.model import Spec

if TYPE_CHECKING:
    from launcher.vault import VaultSource

RESTORE = (
    "`launcher rebuild LOCK --from STORE` takes it from the store whose vault has it; `launcher vault add` puts it"
    " there on the machine that made the lock"
)


def missing(artifacts: Sequence[Artifact], cache: Cache) -> list[Artifact]:
    """Return those that the cache lacks."""
    return [artifact for artifact in artifacts if cache.find("artifacts", artifact.sha256) is None]


def bring_back(lock: Lock, spec: Spec, cache: Cache, progress: Progress) -> None:
    """Take what this machine lacks from the vault in the spec's store, if it is there.

    That is also the base of a registry, which may have forgotten it.
    """
    base = (lock.base.config, *lock.base.layers) if lock.base else ()
    if not (lost := missing([*lock.executed, *base], cache)):
        return
    from launcher.fetch import fetch

    with contextlib.suppress(FetchError, IntegrityError, StoreError):  # whoever needs it says that it is missing
        fetch(lost, cache, [last_resort(spec.store)], progress)


def last_resort(store: str | None) -> VaultSource:
    """Return the vault of a store (None: the machine's default one), which is opened only when somebody looks there."""
    from launcher import access
    from launcher import store as stores
    from launcher.vault import VaultSource

    return VaultSource(url=store or stores.default_url(), opens=lambda: access.open_to_read(store))


def lost_for_good(lock: Lock, cache: Cache) -> list[Problem]:
    """Say of what the cache still lacks why no index has it, and what to do; nothing when it lacks none of that."""
    if not (lost := missing(lock.executed, cache)):
        return []
    names = ", ".join(sorted({artifact.name for artifact in lost}))
    message = f"{names}: built once when the lock was made, so no index has it, and nobody can build the same again"
    return [Problem(message=message, hint=RESTORE)]
