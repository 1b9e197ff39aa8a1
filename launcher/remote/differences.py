"""What a file has in common with one that the site has already: today's code with yesterday's.

A tar archive is made of blocks of 512 bytes (POSIX.1-2017, pax), and a file that didn't change is the same blocks at
another place. So whole blocks are looked for; a file that did change travels from its first change to its end.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.profiles.places import Places
from launcher.remote.items import BLOCK, Base, Item, Step

WORTH_BYTES = 32 << 10  # less is sent whole
MOST_BYTES = 256 << 20  # more is not looked into
ENOUGH = 0.9  # a base that has so much of it is as good as any
REMEMBERED = 6  # of each site
Data = bytes | mmap.mmap


def code(digest: str, archive: Path, cache: Cache, site: str) -> Item:
    """Return the item of a code archive, with the archives that were sent to a site before; `site` tells it from
    others. This one is remembered for the next."""
    there, key = Places(""), sha256_bytes(site.encode())
    noted = cache.note("sent-code", key)
    before = [str(one) for one in noted if one != digest] if isinstance(noted, list) else []
    cache.write_note("sent-code", key, [digest, *before][:REMEMBERED])
    kept = ((one, cache.find("artifacts", one)) for one in before[:REMEMBERED])
    bases = tuple(Base(path=there.artifact(one), source=path) for one, path in kept if path)
    return Item(path=there.artifact(digest), source=archive, bases=bases)


def against(item: Item, there: Collection[str]) -> Item:
    """Return the item as it has to travel where some of its bases are there: made from the one that has most of it."""
    bases = [base for base in item.bases if base.path in there and base.source.stat().st_size]
    if not bases or not isinstance(item.source, Path) or not WORTH_BYTES <= item.size <= MOST_BYTES:
        return item
    best = item
    with mapped(item.source) as new:
        for base in bases:
            with mapped(base.source) as old:
                made = replace(item, base=base.path, steps=tuple(difference(old, new)))
            best = min(best, made, key=Item.travels)
            if best.travels() < (1 - ENOUGH) * item.size:
                break
    return best


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def difference(old: Data, new: Data) -> Iterator[Step]:
    """Yield the steps that make `new`: what is copied from `old`, and what comes from `new` itself, in order."""
    places: dict[int, int] = {}
    for at, block in blocks(old):
        places.setdefault(hash(block), at)
    last = Step(copied=True, at=0, size=0)
    for at, block in blocks(new):
        found = last.at + last.size if last.copied else -1  # what follows in one most often follows in the other
        if not is_at(old, found, block):
            found = places.get(hash(block), -1)
        copied = is_at(old, found, block)
        start = found if copied else at
        if last.copied == copied and last.at + last.size == start:
            last = replace(last, size=last.size + len(block))
            continue
        if last.size:
            yield last
        last = Step(copied=copied, at=start, size=len(block))
    if last.size:
        yield last


def is_at(data: Data, at: int, block: bytes) -> bool:
    return at >= 0 and data[at : at + len(block)] == block


def blocks(data: Data) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), BLOCK):
        yield at, data[at : at + BLOCK]
