"""Device code in NVIDIA's fat binaries: for which compute capabilities, as machine code (cubin) or as PTX.

The format is not documented by NVIDIA. What is used of it, as read by several free tools (ZLUDA, cricket's
cuda-fatbin-decompression) and checked against wheels of torch 2.7.1 (CUDA 12.6), torch 2.13.0 (CUDA 13.0), tensorflow
2.21.0, jax-cuda12-pjrt 0.12.0, cupy-cuda12x 14.2.0 and bitsandbytes 0.42.0:

    container   u32 magic 0xBA55ED50, u16 version 1, u16 size of this header (16), u64 size of what follows
    entry       u16 kind (1 PTX, 2 cubin), u16, u32 size of this header (64, or 112), u64 size of the payload,
                u32, u32, u16 minor, u16 major (cubin's format, or the version of PTX), u32 capability (86 is 8.6),
                u32, u32, u64 flags: 1 << 20 architecture-specific ("a"), 1 << 21 family-specific ("f"),
                1 << 13 packed by LZ4, 1 << 15 by Zstandard; an entry follows the payload of the one before

The two bits of "a" and "f" were found by unpacking cubins, which name their target ("sm_90a", "sm_103f").
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from launcher.resolve.gpu.forward import Forward

MAGIC = struct.pack("<I", 0xBA55ED50)
CONTAINER = struct.Struct("<IHHQ")
ENTRY = struct.Struct("<HHIQIIHHIIIQ")
KINDS: dict[int, Literal["ptx", "cubin"]] = {1: "ptx", 2: "cubin"}
ARCHITECTURE_SPECIFIC, FAMILY_SPECIFIC = 1 << 20, 1 << 21
ALIGNMENT = 8
LARGEST_HEADER = 4096
MOST_ENTRIES = 4096
RARE = 10

Target = tuple[str, str]
"""("cubin" or "ptx", compute capability)"""


@dataclass(frozen=True, kw_only=True)
class Container:
    """One fat binary: where it begins and ends in its file, and the targets that it has code for."""

    start: int
    end: int
    targets: frozenset[Target]


def containers(stream: Forward, start: int, end: int) -> Iterator[Container]:
    """Yield the fat binaries that begin between two positions of a file."""
    position = start
    while (at := stream.find(MAGIC, position, end)) is not None:
        found = container(stream, at) if at % ALIGNMENT == 0 else None
        if found:
            yield found
        position = found.end if found else at + 1


def container(stream: Forward, start: int) -> Container | None:
    """Read the container at a position; None when it only begins like one."""
    head = stream.read(start, CONTAINER.size)
    if len(head) < CONTAINER.size:
        return None
    _, version, header_size, size = CONTAINER.unpack(head)
    if version != 1 or not CONTAINER.size <= header_size <= LARGEST_HEADER:
        return None
    position, end = start + header_size, start + header_size + size
    targets: set[Target] = set()
    for _ in range(MOST_ENTRIES):
        if position + ENTRY.size > end:
            return Container(start=start, end=end, targets=frozenset(targets))
        data = stream.read(position, ENTRY.size)
        if len(data) < ENTRY.size:
            return None
        kind, _, entry_size, payload, _, _, _, _, number, _, _, flags = ENTRY.unpack(data)
        if not ENTRY.size <= entry_size <= LARGEST_HEADER or position + entry_size + payload > end:
            return None
        if kind in KINDS:
            targets.add((KINDS[kind], capability(number, flags)))
        position += entry_size + payload
    return None


def capability(number: int, flags: int) -> str:
    """Return 90 with its flags as "9.0a"."""
    letter = "a" if flags & ARCHITECTURE_SPECIFIC else "f" if flags & FAMILY_SPECIFIC else ""
    return f"{number // 10}.{number % 10}{letter}"


def usual(counts: Counter[Target]) -> frozenset[Target]:
    """Return the targets that an artifact was compiled for as a whole.

    A few kernels of a big library are compiled for one GPU more ("9.0a" for one matrix product): a target that fewer
    than one in ten of its fat binaries have, counted by the commonest target, would promise what the others lack.
    """
    most = max(counts.values(), default=0)
    return frozenset(target for target, count in counts.items() if count * RARE >= most)
