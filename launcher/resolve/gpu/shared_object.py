"""The device code of one shared object, read from its stream in one pass.

Fat binaries lie in sections such as .nv_fatbin and __nv_relfatbin, but the table of sections comes last (System V
gABI): so every container is noted on the way, and those count that lie in a section which begins with one.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable

from launcher.resolve.gpu.fatbin import Target, containers
from launcher.resolve.gpu.forward import Forward

HEADER = struct.Struct("<16s2HI3QI6H")
SECTION = struct.Struct("<2I4Q2I2Q")
LITTLE_64 = b"\x7fELF\x02\x01"
END = 1 << 62
LARGEST_TABLE = 1 << 22


def device_code(pieces: Iterable[bytes]) -> Counter[Target]:
    """Count the fat binaries of a shared object for each target; none for a file that is no 64-bit ELF."""
    stream = Forward(pieces)
    head = stream.read(0, HEADER.size)
    if len(head) < HEADER.size or not head.startswith(LITTLE_64):
        return Counter()
    fields = HEADER.unpack(head)
    offset, size = fields[6], fields[11] * fields[12]
    offset = offset if HEADER.size <= offset and 0 < size <= LARGEST_TABLE else 0
    found = list(containers(stream, HEADER.size, offset)) if offset else []
    begins = section_starts(stream.read(offset, size)) if offset else {}
    found += containers(stream, offset + size if offset else HEADER.size, END)
    stream.drain()
    ranges = [(one.start, begins[one.start]) for one in found if one.start in begins]
    counted = [one for one in found if any(low <= one.start < high for low, high in ranges)] if begins else found
    return Counter(target for one in counted for target in one.targets)


def section_starts(table: bytes) -> dict[int, int]:
    """Return where each section of a table begins in the file, and where it ends."""
    rows = SECTION.iter_unpack(table[: len(table) - len(table) % SECTION.size])
    return {offset: offset + size for _, kind, _, _, offset, size, *_ in rows if kind and size}
