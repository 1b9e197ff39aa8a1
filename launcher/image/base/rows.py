"""What one layer of a base holds, as short rows: read from its tar's headers once, then from a note in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.cache import Cache
from launcher.errors import ImageError
from launcher.image.tar_reader import (
    FILE_TYPES,
    FOLDER,
    HARDLINK,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Member,
    Window,
    clean,
    members,
)

Row = tuple[str, str, int, int, int, str]
"""(kind, path, mode, size in bytes, offset in the tar, link target); whiteouts and opaque marks are kinds too."""

NOTES = "layer-rows"
OTHERS = frozenset(b"346")  # character and block devices, pipes


def rows_of(path: Path, cache: Cache | None, diff_id: str) -> list[Row]:
    """Return the rows of the uncompressed layer at `path`. Raises ImageError when it is broken."""
    if cache and isinstance(noted := cache.note(NOTES, diff_id), dict):
        return [as_row(row) for row in noted["rows"]] if noted["odd"] else list(map(tuple, noted["rows"]))
    rows = list(read(path))
    if cache:
        odd = not all(row[1].isascii() and row[5].isascii() for row in rows)
        told = [[r[0], plain(r[1]), r[2], r[3], r[4], plain(r[5])] for r in rows] if odd else rows
        cache.write_note(NOTES, diff_id, {"odd": odd, "rows": told})
    return rows


def as_row(noted: list[Any]) -> Row:
    """Read a noted row back that may hold names which are not ASCII."""
    kind, path, mode, size, offset, target = noted
    return (kind, native(path), mode, size, offset, native(target))


def plain(name: str) -> str:
    """Return a name in characters that JSON can carry, one for each byte."""
    return name if name.isascii() else os.fsencode(name).decode("latin-1")


def native(name: str) -> str:
    return name if name.isascii() else os.fsdecode(name.encode("latin-1"))


def read(path: Path) -> Iterator[Row]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for member in members(Window(fd)):
            yield row_of(member)
    except (EOFError, ValueError, IndexError) as e:
        said = str(e) or "it ends too early"
        raise ImageError(f"the base's layer {path.name} can't be read: {said}") from e
    finally:
        os.close(fd)


def row_of(member: Member) -> Row:
    name = clean(member.name)
    parent, _, last = name.rpartition(b"/")
    path, mode = os.fsdecode(name), member.mode & 0o7777
    if last == OPAQUE:
        return ("opaque", os.fsdecode(parent), 0, 0, 0, "")
    if last.startswith(WHITEOUT):
        hidden = last[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise ValueError(f"{path!r} takes away no name")
        return ("whiteout", os.fsdecode(parent + b"/" + hidden if parent else hidden), 0, 0, 0, "")
    if member.kind in FILE_TYPES:
        return ("file", path, mode, member.size, member.offset, "")
    if member.kind == FOLDER:
        return ("dir", path, mode, 0, 0, "")
    if member.kind == SYMLINK:
        return ("symlink", path, 0o777, 0, 0, os.fsdecode(member.link))
    if member.kind == HARDLINK:
        return ("hardlink", path, mode, 0, 0, os.fsdecode(clean(member.link)))
    if member.kind in OTHERS:
        return ("other", path, mode, 0, 0, "")
    raise ValueError(f"{path!r} is of kind {chr(member.kind)!r}, which layers have not")
