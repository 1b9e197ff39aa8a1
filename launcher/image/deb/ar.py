"""The outer shell of a .deb: an ar archive whose members come in the order that deb(5) lays down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from launcher.errors import ImageError

MAGIC = b"!<arch>\n"
HEADER_BYTES = 60
HEADER_END = b"`\n"
FORMAT_BYTES = 64
SUFFIXES = {"": "tar", ".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2"}


@dataclass(frozen=True)
class Part:
    """One member of the ar archive: `offset` and `size` in bytes; `packing` is a value of SUFFIXES."""

    name: str
    offset: int
    size: int
    packing: str = ""


@dataclass(frozen=True)
class Parts:
    """The two archives inside a .deb."""

    control: Part
    data: Part


def read_parts(path: Path, label: str) -> Parts:
    """Find the control and data archives of the .deb at `path`; `label` names it in messages.

    Raises ImageError when it isn't a Debian binary package of format 2 (deb(5)).
    """
    with path.open("rb") as stream:
        parts = list_parts(stream, path.stat().st_size, label)
        check_format(stream, parts, label)
    known = [part for part in parts[1:] if not part.name.startswith("_")]  # deb(5): those may be ignored
    if len(known) < 2:
        raise ImageError(f"{label}: it has no {'data' if known else 'control'} archive", hint=damaged_hint())
    return Parts(packed(known[0], "control.tar", label), packed(known[1], "data.tar", label))


def damaged_hint() -> str:
    return "the file is damaged or not a Debian package; fetch it again"


def list_parts(stream: BinaryIO, size: int, label: str) -> list[Part]:
    """List the members of an ar archive of `size` bytes."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise ImageError(f"{label}: this is not a .deb: it doesn't begin like an ar archive", hint=damaged_hint())
    parts, offset = [], len(MAGIC)
    while offset < size:
        stream.seek(offset)
        part = read_header(stream.read(HEADER_BYTES), offset + HEADER_BYTES, label)
        if part.offset + part.size > size:
            raise ImageError(
                f"{label}: {part.name}: says it is {part.size} bytes long, but the file ends after "
                f"{size - part.offset} of them",
                hint=damaged_hint(),
            )
        parts.append(part)
        offset = part.offset + part.size + part.size % 2
    return parts


def read_header(header: bytes, offset: int, label: str) -> Part:
    """Read one ar header; its member's bytes begin at `offset`."""
    if len(header) != HEADER_BYTES or header[58:] != HEADER_END:
        raise ImageError(f"{label}: the ar archive breaks off at byte {offset - HEADER_BYTES}", hint=damaged_hint())
    name = header[:16].decode("ascii", "replace").rstrip().removesuffix("/")
    digits = header[48:58].strip()
    if not digits.isdigit():
        raise ImageError(f"{label}: {name}: its size {digits.decode('ascii', 'replace')!r} is not a number")
    return Part(name, offset, int(digits))


def check_format(stream: BinaryIO, parts: list[Part], label: str) -> None:
    """Check that `debian-binary` comes first and names format 2.x."""
    if not parts or parts[0].name != "debian-binary":
        first = parts[0].name if parts else "nothing"
        raise ImageError(f"{label}: begins with {first}, not with debian-binary", hint=damaged_hint())
    stream.seek(parts[0].offset)
    text = stream.read(min(parts[0].size, FORMAT_BYTES)).decode("ascii", "replace")
    if not text.startswith("2."):
        raise ImageError(
            f"{label}: debian-binary: is of format {text.splitlines()[0] if text else ''!r}, expected 2.0",
            hint="this version of launcher reads deb(5) format 2 only",
        )


def packed(part: Part, stem: str, label: str) -> Part:
    """Return `part` with its packing; raises ImageError when it isn't `stem` in a known packing."""
    suffix = part.name.removeprefix(stem)
    if not part.name.startswith(stem) or suffix not in SUFFIXES:
        wanted = ", ".join(stem + suffix for suffix in SUFFIXES)
        raise ImageError(f"{label}: {part.name}: expected one of {wanted} here", hint=damaged_hint())
    return Part(part.name, part.offset, part.size, SUFFIXES[suffix])
