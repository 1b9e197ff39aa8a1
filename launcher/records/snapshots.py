"""Snapshots: the rows of somebody's index as one object in the store, so that a new machine needn't read every run.

A line of JSON that says what it is, then a zstandard frame with one row in a line. A snapshot is a hint: whoever reads
one asks the journal what came after it, and one that is damaged, foreign or gone is passed over.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from launcher.errors import LauncherError, StoreError
from launcher.records.index import VERSION, Index, Row
from launcher.runner.clock import stamp
from launcher.store import keys
from launcher.store.objects import Store

WORTH = 300  # runs that have ended since the newest snapshot, and make a new one worth writing
SHARE = 10  # and at least one in so many of all
STAY = 2
HEAD_BYTES = 4096
PATIENCE_S = 86400.0  # where the store refuses a snapshot, ask again after so long


def load(index: Index, store: Store) -> dict[str, str]:
    """Take the newest snapshot that is whole into the index; return its notes, empty without one."""
    for key in reversed(listed(store)):
        try:
            head, rows = parsed(store.get(key))
        except (StoreError, ValueError, KeyError, TypeError):
            continue
        notes = {"snapshot_runs": str(head["runs"]), **({"journal": head["journal"]} if head["journal"] else {})}
        index.write(rows, notes=notes)
        return notes
    return {}


def listed(store: Store) -> list[str]:
    return [entry.key for entry in store.list(keys.snapshot())]


def parsed(data: bytes) -> tuple[dict[str, Any], list[Row]]:
    """Read a snapshot. Raises ValueError, KeyError or TypeError for one that is not what was written."""
    import zstandard

    first, _, frame = data.partition(b"\n")
    head = header(first)
    try:
        lines = zstandard.ZstdDecompressor().decompress(frame).splitlines()
    except zstandard.ZstdError as e:
        raise ValueError(str(e)) from e
    rows = [Row(*json.loads(line)) for line in lines]
    if len(rows) != head["rows"]:
        raise ValueError(f"{len(rows)} rows instead of {head['rows']}")
    return head, rows


def header(line: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(line)
    if head["version"] != VERSION:
        raise ValueError(f"a snapshot of version {head['version']}")
    return head


def made(rows: list[Row], journal: str) -> bytes:
    """Return a snapshot's bytes."""
    import zstandard

    head = {"version": VERSION, "runs": sum(row.final for row in rows), "rows": len(rows), "journal": journal}
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    packed = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(lines)
    return json.dumps(head).encode() + b"\n" + packed


def leave(index: Index, store: Store, now: float) -> bool:
    """Write a snapshot if much has ended since the newest one; return whether one was written.

    A store that refuses is left in peace for a day: nobody needs snapshots but those who are in a hurry.
    """
    notes, final = index.notes(), index.count("final = 1")
    if not worth(final, int(notes.get("snapshot_runs", 0))) or now < float(notes.get("snapshot_refused", 0)):
        return False
    try:
        theirs = newest_count(store)
        if worth(final, theirs):
            write(index, store, notes.get("journal", ""), now)
    except LauncherError:
        index.write(notes={"snapshot_refused": str(now + PATIENCE_S)})
        return False
    index.write(notes={"snapshot_runs": str(max(final, theirs))})
    return worth(final, theirs)


def worth(final: int, before: int) -> bool:
    return final - before >= max(WORTH, final // SHARE)


def newest_count(store: Store) -> int:
    """Return how many runs that have ended the newest snapshot holds, whoever wrote it."""
    for key in reversed(listed(store)):
        with contextlib.suppress(StoreError, ValueError, KeyError, TypeError):
            return int(header(store.get_range(key, 0, HEAD_BYTES).partition(b"\n")[0])["runs"])
    return 0


def write(index: Index, store: Store, journal: str, now: float) -> None:
    store.create(keys.snapshot(stamp(int(now * 1e9))), made(index.rows(), journal))
    with contextlib.suppress(LauncherError):
        for key in listed(store)[:-STAY]:
            store.delete(key)
