"""Small shared objects with device code in them, as compilers lay it out: ELF, sections, fat binaries, entries."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC = 0xBA55ED50
FLAGS = {"a": 1 << 20, "f": 1 << 21, "": 0}
LZ4, ZSTD = 1 << 13, 1 << 15


def entry(kind: str, capability: str, payload: bytes = b"\x01" * 40, *, header: int = 64, flags: int = ZSTD) -> bytes:
    """Return one entry: `kind` is "cubin" or "ptx", `capability` like "9.0a"."""
    letter = capability[-1] if capability[-1] in "af" else ""
    number = int(capability.rstrip("af").replace(".", ""))
    body = payload + b"\0" * (-len(payload) % 8)
    head = struct.pack(
        "<HHIQIIHHIIIQ",
        {"ptx": 1, "cubin": 2}[kind],
        0x101,
        header,
        len(body),
        len(payload),
        0,
        8,
        1,
        number,
        0,
        0,
        flags | FLAGS[letter] | 0x11,
    )
    return head.ljust(header, b"\0") + body


def container(*entries: bytes, version: int = 1) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", MAGIC, version, 16, len(body)) + body


def compiled(*targets: str) -> bytes:
    """Return a container for words such as "8.6" and "ptx 12.0"."""
    words = [target.rpartition(" ") for target in targets]
    return container(*(entry(kind or "cubin", capability) for kind, _, capability in words))


def shared_object(
    sections: Sequence[tuple[str, bytes]], *, table_first: bool = False, sections_told: bool = True
) -> bytes:
    """Return a 64-bit little-endian ELF with these sections; its table of sections comes last, or first."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _ in sections) + b".shstrtab\0"
    every = [*sections, (".shstrtab", names)]
    count = len(every) + 1
    position = 64 + (count * 64 if table_first else 0)
    bodies, rows = b"", [bytes(64)]
    for name, data in every:
        gap = -position % 16
        bodies += b"\0" * gap + data
        kind = 3 if name == ".shstrtab" else 1
        rows.append(
            struct.pack("<2I4Q2I2Q", names.index(name.encode()), kind, 2, 0, position + gap, len(data), 0, 0, 16, 0)
        )
        position += gap + len(data)
    gap = -position % 8 if not table_first else 0
    offset = 64 if table_first else position + gap
    table = b"".join(rows)
    told = (offset, count) if sections_told else (0, 0)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = ident + struct.pack("<2HI3QI6H", 3, 62, 1, 0, 0, told[0], 0, 64, 56, 0, 64, told[1], count - 1)
    if not sections_told:
        return head + bodies
    return head + (table + bodies if table_first else bodies + b"\0" * gap + table)
