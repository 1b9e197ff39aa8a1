"""Put the right bytes back into a vault where they were lost or damaged, and tell from where they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from launcher.digest import sha256_bytes
from launcher.errors import FetchError, IntegrityError, Problem, StoreError
from launcher.lock import Artifact
from launcher.progress import SILENT
from launcher.store.objects import Store
from launcher.vault.collecting import ARTIFACTS
from launcher.vault.references import INPUTS
from launcher.vault.trees import files
from launcher.vault.verifying import Damage, wrong_bytes

NOWHERE = "name another vault by --from, or run this on a machine whose cache has it"

Bring = Callable[[Artifact], tuple[Path, str]]
"""Finds an artifact's right bytes: a file that has its sha256, and the name of where it came from. Raises FetchError,
IntegrityError."""


@dataclass(frozen=True, kw_only=True)
class Healed:
    """`mended` are the damages that are gone, each with where the bytes came from; `left` are those that stay."""

    mended: tuple[tuple[Damage, str], ...]
    left: tuple[Problem, ...]


def heal(store: Store, damaged: Iterable[Damage], bring: Bring, others: Iterable[Store] = ()) -> Healed:
    """Write the right bytes over damaged objects, and read each one back. Raises StoreError when the store refuses."""
    mended, left, others = [], [], tuple(others)
    for damage in damaged:
        try:
            mended.append((damage, mend(store, damage, bring, others)))
        except (FetchError, IntegrityError) as e:
            where = "".join(f"\n  {problem.message}" for problem in e.problems)
            left.append(Problem(message=f"{damage}, and can't be healed:{where}", hint=NOWHERE))
    return Healed(mended=tuple(mended), left=tuple(left))


def mend(store: Store, damage: Damage, bring: Bring, others: tuple[Store, ...]) -> str:
    """Put one object right; return where its bytes came from."""
    if not damage.key.startswith(ARTIFACTS):
        return mend_text(store, damage, others)
    path, where = bring(damage.wanted.artifact)
    store.put_file(damage.key, path)
    with SILENT.task("") as task:
        if why := wrong_bytes(store, damage.wanted.artifact.sha256, task):
            raise IntegrityError(f"{damage.key} {why}, right after it was written: distrust this store")
    return where


def mend_text(store: Store, damage: Damage, others: tuple[Store, ...]) -> str:
    """Put a lock, or a list of an input's files, right from another vault that has it."""
    for other in others:
        try:
            data = other.get(damage.key)
        except StoreError:
            continue
        if is_right(damage, data):
            store.put(damage.key, data)
            return f"the vault in {other.url}"
    raise FetchError("no other vault that was named has it")


def is_right(damage: Damage, data: bytes) -> bool:
    digest = damage.wanted.artifact.sha256
    if not damage.key.startswith(INPUTS):
        return sha256_bytes(data) == digest
    try:
        files(digest, data)
    except (KeyError, TypeError, ValueError):
        return False
    return True
