"""The Debian part of an image, cut into layers: the base, each big package, the other packages, the system."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.digest import sha256_bytes
from launcher.image.base.tree import BaseTree
from launcher.image.debian import compose
from launcher.image.debian.system import OF_BASE
from launcher.image.keys import key_of
from launcher.image.layers import (
    BASE,
    BIG,
    BIG_BYTES,
    MOST_SOLO_LAYERS,
    PACKAGES,
    SYSTEM,
    LayerPlan,
    with_parents,
)
from launcher.image.tree import Bytes, Entry
from launcher.lock.model import Deb


def debian_layers(
    debs: Sequence[tuple[Deb, Path]],
    scratch: Path,
    workers: int,
    base: BaseTree | None = None,
    most_solo: int = MOST_SOLO_LAYERS,
) -> list[LayerPlan]:
    """Return the layers of these packages; one that would be empty is left out, and so is all that is `base`'s own."""
    tree = compose(debs, scratch, workers=workers, base=base)
    folders = {path: entry for path, entry in tree.entries.items() if entry.kind == "dir"}
    by_owner: dict[str, list[Entry]] = defaultdict(list)
    for path, entry in tree.entries.items():
        if tree.owners[path] != OF_BASE:
            by_owner[tree.owners[path]].append(entry)
    pins = {deb.name: deb for deb, _ in debs}
    lowest = [name for name in sorted(pins) if pins[name].group == "base"]
    extra = sorted((n for n in pins if pins[n].group == "apt"), key=lambda n: (-weight(by_owner[n]), n))
    solo = [name for name in extra[:most_solo] if weight(by_owner[name]) >= BIG_BYTES]
    rest = sorted(set(extra) - set(solo))

    def cut(rank: int, name: str, owners: Sequence[str]) -> LayerPlan:
        entries = with_parents((entry for owner in owners for entry in by_owner[owner]), folders)
        sources = [(e.path, e.kind, e.mode, e.target, source(e, tree.owners, pins)) for e in entries]
        key = key_of("debs", sources)
        return LayerPlan(rank=rank, name=name, key=key, size=weight(entries), entries=lambda: entries)

    return [
        *([cut(BASE, "base", lowest)] if lowest else []),
        *(cut(BIG, f"{name} {pins[name].version}", [name]) for name in solo),
        *([cut(PACKAGES, "packages", rest)] if rest else []),
        *([cut(SYSTEM, "system", [""])] if by_owner[""] else []),
    ]


def weight(entries: Sequence[Entry]) -> int:
    """Return the size of the files among `entries`, in bytes."""
    return sum(entry.content.size for entry in entries if entry.content)


def source(entry: Entry, owners: Mapping[str, str], pins: Mapping[str, Deb]) -> str:
    """Say by digests where an entry's bytes come from, so that a layer's key needn't read them."""
    if isinstance(entry.content, Bytes):
        return sha256_bytes(entry.content.data)
    owner = owners.get(entry.path, "")
    return pins[owner].sha256 if entry.content and owner else ""
