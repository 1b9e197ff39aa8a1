"""What one wheel says of CUDA: its framework's own words, its device code, and whether it carries the driver's library.

Reading a gigabyte of device code takes seconds, so what was found is noted in the cache by the wheel's sha256.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.cache import Cache
from launcher.gpu.model import Code, Source
from launcher.gpu.versions import capability_key
from launcher.image.inflate import ZipMember, members
from launcher.lock.model import Wheel
from launcher.resolve.gpu.fatbin import Target, usual
from launcher.resolve.gpu.shared_object import device_code

NOTE = "device-code-1"  # of what was found by the rules of this version
SHARED_OBJECT = re.compile(r"\.so(\.\d+)*$")
SMALLEST_BYTES = 4096
TORCH_VERSION, TENSORFLOW_BUILD = "torch/version.py", "tensorflow/python/platform/build_info.py"
TORCH_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*['\"](\d+\.\d+)['\"]", re.M)
TENSORFLOW_CUDA = re.compile(r"cuda_version['\"]?\s*[,:=]\s*['\"](\d+\.\d+)")
TENSORFLOW_TARGETS = re.compile(r"cuda_compute_capabilities['\"]?\s*[,:=]\s*\[([^\]]*)\]")
TORCH_FLAGS = re.compile(rb"(?:sm|compute)_\d+[af]?(?: (?:sm|compute)_\d+[af]?)+\0")
TORCH_LIBRARY = "torch/lib/libtorch_python.so"  # holds what torch.cuda.get_arch_list() returns
FRAMEWORKS = {"torch": (TORCH_VERSION, TORCH_CUDA), "tensorflow": (TENSORFLOW_BUILD, TENSORFLOW_CUDA)}
WORD = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Which targets a wheel has code for, and how that is known; none when nothing tells."""

    source: Source
    cubins: tuple[str, ...]
    ptx: tuple[str, ...]


def cuda_of(wheel: Wheel, path: Path) -> str | None:
    """Return the CUDA X.Y that one of FRAMEWORKS was built with, by its own words; None for a build without."""
    place, pattern = FRAMEWORKS[wheel.name]
    files = members(path, wheel.filename)
    said = pattern.search(text(files[place])) if place in files else None
    return said[1] if said else None


def code_of(wheel: Wheel, path: Path, cache: Cache) -> Code | None:
    """Return a wheel's device code; None when it has none, or none that can be read."""
    note = cache.note(NOTE, wheel.sha256)
    if not isinstance(note, dict) or note.keys() != {"source", "cubins", "ptx"}:
        note = asdict(read(wheel, path))
        cache.write_note(NOTE, wheel.sha256, note)
    if not note["cubins"] and not note["ptx"]:
        return None
    targets = {"cubins": tuple(note["cubins"]), "ptx": tuple(note["ptx"])}
    return Code(name=wheel.name, version=wheel.version, source=note["source"], **targets)


def read(wheel: Wheel, path: Path) -> Found:
    """Read the device code itself, else the framework's words on it."""
    files = members(path, wheel.filename)
    counts: Counter[Target] = Counter()
    for name, member in files.items():
        if SHARED_OBJECT.search(name) and member.size >= SMALLEST_BYTES:
            counts += device_code(member.chunks())
    if targets := usual(counts):
        return found("elf", targets)
    return found("metadata", words_of(files))


def found(source: Source, targets: frozenset[Target]) -> Found:
    cubins = sorted((value for kind, value in targets if kind == "cubin"), key=capability_key)
    ptx = sorted((value for kind, value in targets if kind == "ptx"), key=capability_key)
    return Found(source=source, cubins=tuple(cubins), ptx=tuple(ptx))


def words_of(files: Mapping[str, ZipMember]) -> frozenset[Target]:
    """Return the targets that torch or tensorflow says it was compiled for."""
    if TORCH_LIBRARY in files:
        return targets_in(torch_flags(files[TORCH_LIBRARY]))
    if TENSORFLOW_BUILD in files and (said := TENSORFLOW_TARGETS.search(text(files[TENSORFLOW_BUILD]))):
        return targets_in(said[1])
    return frozenset()


def torch_flags(member: ZipMember) -> str:
    """Find the list of targets among a library's strings."""
    rest = b""
    for chunk in member.chunks():
        if said := TORCH_FLAGS.search(rest + chunk):
            return said[0].decode("ascii")
        rest = chunk[-512:]
    return ""


def targets_in(said: str) -> frozenset[Target]:
    """Read "sm_80 sm_90a compute_120" as compilers' words: sm is machine code, compute is PTX."""
    return frozenset(
        ("cubin" if kind == "sm" else "ptx", f"{major}.{minor}{letter}")
        for kind, major, minor, letter in WORD.findall(said)
    )


def text(member: ZipMember) -> str:
    return b"".join(member.chunks()).decode("utf-8", "replace")
