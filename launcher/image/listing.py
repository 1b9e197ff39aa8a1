"""A layer's list of files: small enough to keep for ever, and enough to say which path differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from launcher.digest import canonical_json
from launcher.image.tree import Entry

Row = tuple[str, str, int, int, int, str]
"""(path, kind, mode, size in bytes, CRC-32 of the content, link target)"""


def listing_bytes(entries: Iterable[Entry], checksums: Mapping[str, int]) -> bytes:
    """Return one JSON array a line, in the layer's order."""
    return b"".join(canonical_json(row(entry, checksums)) + b"\n" for entry in entries)


def row(entry: Entry, checksums: Mapping[str, int]) -> Row:
    size = entry.content.size if entry.kind == "file" and entry.content else 0
    return (entry.path, entry.kind, entry.mode, size, checksums.get(entry.path, 0), entry.target)


def rows(listing: bytes) -> dict[str, Row]:
    """Read a listing back, by path."""
    found = (json.loads(line) for line in listing.splitlines())
    return {fields[0]: tuple(fields) for fields in found}


def differences(expected: bytes, got: bytes) -> Iterator[str]:
    """Yield a line for each path that differs between two listings, in order of path."""
    old, new = rows(expected), rows(got)
    for path in sorted({*old, *new}):
        if path not in new:
            yield f"/{path}: is missing"
        elif path not in old:
            yield f"/{path}: is new"
        elif old[path] != new[path]:
            yield f"/{path}: {what_differs(old[path], new[path])}"


def what_differs(old: Row, new: Row) -> str:
    names = ("path", "kind", "mode", "size", "content", "target")
    return ", ".join(
        f"{name} {shown(name, a)} became {shown(name, b)}" for name, a, b in zip(names, old, new, strict=True) if a != b
    )


def shown(name: str, value: object) -> str:
    return f"{value:04o}" if name == "mode" else f"{value:08x}" if name == "content" else str(value)
