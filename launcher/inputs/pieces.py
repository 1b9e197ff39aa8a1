"""Very big objects, piece by piece in parallel: what an interrupted command has of one isn't fetched again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.cache import disk_full
from launcher.digest import canonical_text, sha256_bytes
from launcher.inputs.items import Item
from launcher.inputs.shelf import FULL, Shelf
from launcher.progress import Task
from launcher.store.objects import Store

FROM_BYTES = 256 << 20  # smaller ones are fetched in one go: see Store.get_file
PIECE_BYTES = 8 << 20
AT_ONCE = 6  # bounds memory to PIECE_BYTES times this


@contextlib.contextmanager
def grown(store: Store, item: Item, shelf: Shelf, task: Task) -> Iterator[Path]:
    """Fetch what is lacking of an object, and give the whole file, to be hashed and moved; what is left of it goes.

    After an error, or a kill, the pieces stay for the next one to come. They count only for the same mark.
    """
    key = "object-" + sha256_bytes(canonical_text([store.url, item.key, list(item.mark), boot()]).encode())
    with shelf.alone(key, item.key):
        part = shelf.part(key)
        with disk_full(shelf.root, FULL):
            fill(store, item, part, task)
        try:
            yield part
        finally:  # a whole that is wrong is begun anew
            part.unlink(missing_ok=True)
            journal(part).unlink(missing_ok=True)


def journal(part: Path) -> Path:
    """Return the file that tells which pieces are there: a number in each line, written after the piece."""
    return part.with_suffix(".pieces")


def boot() -> str:
    """Return this boot's id: after a power cut a piece may be noted and not written."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def fill(store: Store, item: Item, part: Path, task: Task) -> None:
    there = told(part) if part.exists() else set()
    starts = [start for start in range(0, item.size, PIECE_BYTES) if start not in there]
    task.advance(item.size - sum(length(item, start) for start in starts))
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_WRONLY
    with opened(part, flags) as out, opened(journal(part), flags | os.O_APPEND) as done:
        os.ftruncate(out, item.size)

        def fetch(start: int) -> None:
            asked = length(item, start)
            data = store.call(item.key, lambda inner: inner.get_range(item.key, start=start, length=asked))
            write(out, memoryview(data), start)
            os.write(done, f"{start}\n".encode())
            task.advance(asked)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(fetch, starts):
                pass


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def length(item: Item, start: int) -> int:
    return min(PIECE_BYTES, item.size - start)


def told(part: Path) -> set[int]:
    """Return where the pieces begin that are there; a line that was cut by a kill isn't believed."""
    try:
        lines = journal(part).read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return set()
    return {int(line) for line in lines if line.endswith("\n") and line[:-1].isdigit()}


def write(descriptor: int, data: memoryview, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written
