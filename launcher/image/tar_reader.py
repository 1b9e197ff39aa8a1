"""Read the headers of an uncompressed tar by hand: every dialect that layers come in, a few microseconds an entry.

Formats: POSIX.1-2017 ustar and pax, and GNU tar's long names and base-256 numbers, which foreign layers have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512
READ_BYTES = 1 << 16
FILE_TYPES = frozenset(b"07\0")
HARDLINK, SYMLINK, FOLDER = b"1"[0], b"2"[0], b"5"[0]
PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK = b"x"[0], b"g"[0], b"L"[0], b"K"[0]
LIFTED = frozenset(b"xgLK")
WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"


@dataclass(frozen=True)
class Member:
    """One entry of the archive; its content lies from `offset` on."""

    name: bytes
    kind: int
    mode: int
    size: int
    mtime_ns: int
    link: bytes
    offset: int


class Window:
    """Reads an archive front to back in big pieces, so that most headers and small files cost no system call."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.start = 0
        self.data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on. Raises EOFError when the file is shorter."""
        at = offset - self.start
        if at < 0 or at + size > len(self.data):
            self.start, self.data, at = offset, os.pread(self.fd, max(size, READ_BYTES), offset), 0
        if len(self.data) < at + size:
            raise EOFError
        return self.data[at : at + size]


def clean(name: bytes) -> bytes:
    """Return a member's name as a relative path; raise ValueError when it leads out."""
    plain = name.rstrip(b"/")
    if plain.startswith(b"./"):
        plain = plain[2:]
    if plain == b".":
        return b""
    if plain.startswith(b"/") or b".." in plain.split(b"/") or b"" in plain.split(b"/")[:-1]:
        raise ValueError(f"{name!r} leads out of the layer")
    return plain


def members(window: Window) -> Iterator[Member]:
    """Yield the entries of an archive. Raises EOFError or ValueError when it is broken."""
    offset, extra, shared = 0, dict[bytes, bytes](), dict[bytes, bytes]()
    while True:
        block = window.read(offset, BLOCK)
        if not block[0]:
            return
        if checksum(block) != int(block[148:156].strip(b"\0 ") or b"0", 8):
            raise ValueError("a header's checksum is wrong")
        kind, size, offset = block[156], number(block[124:136]), offset + BLOCK
        if kind in LIFTED:
            target = shared if kind == PAX_GLOBAL else extra
            target.update(lifted(kind, window.read(offset, size)))
        else:
            member = described(block, offset, {**shared, **extra} if shared or extra else extra)
            size, extra = member.size, {}
            yield member
        offset += size + -size % BLOCK


def described(block: bytes, offset: int, extra: dict[bytes, bytes]) -> Member:
    """Read one ustar header; what `extra` holds goes before it."""
    name, prefix = block[:100].split(b"\0", 1)[0], b""
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0", 1)[0]
    kind = block[156]
    mtime = number(block[136:148])
    size = number(block[124:136]) if kind in FILE_TYPES else 0
    return Member(
        name=extra.get(b"path") or (prefix + b"/" + name if prefix else name),
        kind=kind,
        mode=number(block[100:108]),
        size=int(extra[b"size"]) if b"size" in extra and kind in FILE_TYPES else size,
        mtime_ns=int(float(extra[b"mtime"]) * 1e9) if b"mtime" in extra else mtime * 1_000_000_000,
        link=extra.get(b"linkpath") or block[157:257].split(b"\0", 1)[0],
        offset=offset,
    )


def checksum(block: bytes) -> int:
    return sum(block) - sum(block[148:156]) + 8 * 32


def number(field: bytes) -> int:
    """Read an octal number, or GNU's base-256 one."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def lifted(kind: int, body: bytes) -> dict[bytes, bytes]:
    """Return what a pax record or a GNU long name says of the next entry."""
    if kind in (GNU_NAME, GNU_LINK):
        return {b"path" if kind == GNU_NAME else b"linkpath": body.rstrip(b"\0")}
    found: dict[bytes, bytes] = {}
    while body:
        length = int(body[: body.index(b" ")])
        key, _, value = body[body.index(b" ") + 1 : length - 1].partition(b"=")
        found[key] = value
        body = body[length:]
    return found
