"""Read a vault back and say what is missing or damaged, by name: all sizes, and the bytes of a sample or of all."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher.errors import ObjectMissingError
from launcher.lock import Artifact, Lock
from launcher.progress import SILENT, Progress, Task
from launcher.store import keys
from launcher.store.objects import Store
from launcher.vault.adding import at_once, present
from launcher.vault.collecting import ARTIFACTS
from launcher.vault.contents import Wanted, unnamed, wanted
from launcher.vault.locks import Kept, kept, sound
from launcher.vault.trees import listed

SAMPLE_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Damage:
    """An object that is not what its key says. `why` goes on where its name ends: "is missing"."""

    key: str
    wanted: Wanted
    why: str

    def __str__(self) -> str:
        return f"{self.wanted} {self.why}"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What `verify` did. `files` and `size` (bytes) were looked at, `read` and `read_size` were read back."""

    files: int
    size: int
    read: int
    read_size: int
    damaged: tuple[Damage, ...]


def verify(
    store: Store,
    locks: Mapping[str, Lock] | None = None,
    *,
    sample: int | None = SAMPLE_BYTES,
    chance: random.Random | None = None,
    progress: Progress = SILENT,
) -> Verified:
    """Look at everything in a vault, or at what some locks (by digest) need. Of a lock that a run left in the store,
    and nobody added to the vault, no file is missed.

    Each object is there, has the size that its lock says, and, of as many random ones as make `sample` bytes (None:
    of all), the sha256 that its key says. Raises StoreError when the store doesn't answer: that is no damage.
    """
    found = kept(store) if locks is None else []
    trees, odd = listed(store) if locks is None else ({}, {})
    needed = trees | wanted(sound(found, whole=True) if locks is None else locks)
    sizes = sizes_of(store, None if locks is None else list(needed))
    names = {sha256: one for sha256, one in wanted(sound(found)).items() if sha256 in sizes}
    everything = {**{sha256: unnamed(sha256, size) for sha256, size in sizes.items()}, **names, **needed}
    damaged = [bad(one, why) for one in needed.values() if (why := wrong_size(one.artifact, sizes))]
    whole = sizes.keys() - {one.wanted.artifact.sha256 for one in damaged}
    chosen = choose(whole, sizes, sample, chance or random.Random())
    wrong = read_back(store, chosen, sizes, progress)
    damaged += [bad(everything[sha256], why) for sha256, why in wrong.items()]
    locks_size = sum(len(one.data) for one in found)
    return Verified(
        files=len(everything) + len(found),
        size=sum(sizes.values()) + locks_size,
        read=len(chosen) + len(found),
        read_size=sum(sizes[sha256] for sha256 in chosen) + locks_size,
        damaged=(*locks_in_trouble(found), *lists_in_trouble(odd), *sorted(damaged, key=str)),
    )


def sizes_of(store: Store, only: Sequence[str] | None) -> dict[str, int]:
    """Return the sizes of a vault's artifacts, in bytes by sha256."""
    if only is not None:
        return present(store, only)
    return {entry.key.rpartition("/")[2]: entry.size for entry in store.list(ARTIFACTS)}


def wrong_size(artifact: Artifact, sizes: Mapping[str, int]) -> str | None:
    if (size := sizes.get(artifact.sha256)) is None:
        return "is missing"
    if artifact.size not in (0, size):
        return f"has {size} bytes, and {artifact.size} were expected"
    return None


def bad(one: Wanted, why: str) -> Damage:
    return Damage(key=keys.artifact(one.artifact.sha256), wanted=one, why=why)


def locks_in_trouble(found: Iterable[Kept]) -> list[Damage]:
    return [
        Damage(key=keys.lock(one.digest), wanted=lock_itself(one.digest, len(one.data)), why=one.trouble)
        for one in found
        if one.trouble
    ]


def lists_in_trouble(odd: Mapping[str, str]) -> list[Damage]:
    return [Damage(key=key, wanted=list_itself(key), why=why) for key, why in odd.items()]


def list_itself(key: str) -> Wanted:
    digest = key.rpartition("/")[2].removesuffix(".json")
    name = "the list of files of the input"
    return Wanted(artifact=Artifact(name=name, version="", filename=digest[:12], size=0, sha256=digest))


def lock_itself(digest: str, size: int) -> Wanted:
    return Wanted(artifact=Artifact(name="lock", version="", filename=f"{digest}.lock", size=size, sha256=digest))


def choose(whole: Collection[str], sizes: Mapping[str, int], sample: int | None, chance: random.Random) -> list[str]:
    """Return what is read back: everything, or random files until they make `sample` bytes, one at least."""
    mixed = sorted(whole)
    if sample is None:
        return mixed
    chance.shuffle(mixed)
    chosen: list[str] = []
    size = 0
    for sha256 in mixed:
        if chosen and size >= sample:
            break
        chosen.append(sha256)
        size += sizes[sha256]
    return chosen


def read_back(store: Store, chosen: Sequence[str], sizes: Mapping[str, int], progress: Progress) -> dict[str, str]:
    """Return what is wrong with the bytes of some artifacts, by sha256."""
    wrong: dict[str, str] = {}
    guard = threading.Lock()
    with progress.task("reading back", sum(sizes[sha256] for sha256 in chosen)) as task:

        def check(sha256: str) -> None:
            if why := wrong_bytes(store, sha256, task):
                with guard:
                    wrong[sha256] = why

        at_once(check, sorted(chosen, key=lambda sha256: -sizes[sha256]))
    return wrong


def wrong_bytes(store: Store, sha256: str, task: Task) -> str | None:
    """Say what is wrong with one artifact; its bytes are never held whole in memory."""
    digest = hashlib.sha256()
    try:
        for chunk in store.stream(keys.artifact(sha256)):
            digest.update(chunk)
            task.advance(len(chunk))
    except ObjectMissingError:
        return "is missing"
    actual = digest.hexdigest()
    return None if actual == sha256 else f"is damaged: its bytes have the sha256 {actual}"
