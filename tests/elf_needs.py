"""What a shared object asks of the loader: DT_NEEDED, DT_SONAME, DT_RPATH and DT_RUNPATH (System V gABI)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from launcher.image.debian.elf import (
    DT_STRTAB,
    DYNAMIC,
    HEADER,
    LITTLE_64,
    PT_DYNAMIC,
    file_offset,
    read_at,
    read_segments,
)
from launcher.image.tree import Content

DT_NEEDED, DT_RPATH, DT_RUNPATH = 1, 15, 29


@dataclass(frozen=True)
class Needs:
    """`folders` are what the object says itself, $ORIGIN and all."""

    libraries: tuple[str, ...]
    folders: tuple[str, ...]


def needs(content: Content) -> Needs | None:
    """Read a shared object; None for what is none."""
    head = read_at(content, 0, HEADER.size)
    if len(head) < HEADER.size or not head.startswith(LITTLE_64):
        return None
    header = HEADER.unpack(head)
    segments = read_segments(content, header[5], header[10])
    dynamic = next((segment for segment in segments if segment[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return None
    entries = list(DYNAMIC.iter_unpack(read_at(content, dynamic[1], dynamic[3] - dynamic[3] % DYNAMIC.size)))
    strings = file_offset(segments, dict(entries)[DT_STRTAB])

    def text(offset: int) -> str:
        return read_at(content, strings + offset, 4096).split(b"\0", 1)[0].decode()

    told = [(tag, text(value)) for tag, value in entries if tag in (DT_NEEDED, DT_RPATH, DT_RUNPATH)]
    folders = [folder for tag, value in told if tag != DT_NEEDED for folder in value.split(":") if folder]
    return Needs(tuple(value for tag, value in told if tag == DT_NEEDED), tuple(folders))


def expanded(folder: str, library: str) -> str:
    """Return an absolute folder for one of a library's, `..` taken out; both paths begin at the image's root."""
    origin = str(PurePosixPath("/", library).parent)
    parts: list[str] = []
    for part in folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin).split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
