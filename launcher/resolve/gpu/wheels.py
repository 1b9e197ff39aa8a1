"""What one wheel says of CUDA: its framework's own words, its device code, and whether it carries the driver's library.

Reading a gigabyte of device code takes seconds, so what was found is noted in the cache by the wheel's sha256.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.cache import Cache
from launcher.gpu.model import Code, Source
from launcher.gpu.versions import capability_key, fields, is_version
from launcher.image.inflate import members
from launcher.image.tree import Content
from launcher.lock.model import Wheel
from launcher.resolve.gpu.fatbin import Target, usual
from launcher.resolve.gpu.shared_object import device_code

LIBRARIES = {
    "cudart": re.compile(r"nvidia-cuda-runtime(-cu\d+)?"),
    "cudnn": re.compile(r"nvidia-cudnn(-cu\d+)?"),
    "nccl": re.compile(r"nvidia-nccl(-cu\d+)?"),
}
"""Names on the index: with the major version up to CUDA 12, mostly without from CUDA 13 on."""
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


def versions_in(distributions: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield CUDA's runtime, cuDNN and NCCL among names and versions; of several the newest comes last."""
    told = list(distributions)
    for key, pattern in LIBRARIES.items():
        found = [version for name, version in told if pattern.fullmatch(name) and is_version(version)]
        yield from ((key, version) for version in sorted(found, key=fields))


def cuda_of(name: str, files: Mapping[str, Content]) -> str | None:
    """Return the CUDA X.Y that one of FRAMEWORKS was built with, by its own words; None for a build without."""
    place, pattern = FRAMEWORKS[name]
    said = pattern.search(text(files[place])) if place in files else None
    return said[1] if said else None


def code_of(wheel: Wheel, path: Path, cache: Cache) -> Code | None:
    """Return a wheel's device code; None when it has none, or none that can be read."""
    return noted(wheel.name, wheel.version, wheel.sha256, lambda: members(path, wheel.filename), cache)


def noted(name: str, version: str, key: str, files: Callable[[], Mapping[str, Content]], cache: Cache) -> Code | None:
    """Return the device code of a distribution's files, which are read when no note with this key tells of them."""
    note = cache.note(NOTE, key)
    if not isinstance(note, dict) or note.keys() != {"source", "cubins", "ptx"}:
        note = asdict(read(files()))
        cache.write_note(NOTE, key, note)
    if not note["cubins"] and not note["ptx"]:
        return None
    targets = {"cubins": tuple(note["cubins"]), "ptx": tuple(note["ptx"])}
    return Code(name=name, version=version, source=note["source"], **targets)


def read(files: Mapping[str, Content]) -> Found:
    """Read the device code itself, else the framework's words on it."""
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


def words_of(files: Mapping[str, Content]) -> frozenset[Target]:
    """Return the targets that torch or tensorflow says it was compiled for."""
    if TORCH_LIBRARY in files:
        return targets_in(torch_flags(files[TORCH_LIBRARY]))
    if TENSORFLOW_BUILD in files and (said := TENSORFLOW_TARGETS.search(text(files[TENSORFLOW_BUILD]))):
        return targets_in(said[1])
    return frozenset()


def torch_flags(member: Content) -> str:
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


def text(member: Content) -> str:
    return b"".join(member.chunks()).decode("utf-8", "replace")
