"""/etc/ld.so.cache: what ldconfig(8) writes, so that `ldconfig -p` and ctypes' find_library see an image's libraries.

Debian's loader finds its own folders without it. The format is glibc's "glibc-ld.so.cache1.1"
(sysdeps/generic/dl-cache.h): a header, entries in falling order of names, strings.
"""

from __future__ import annotations

import fnmatch
import os
import re
import struct
from collections.abc import Iterator
from posixpath import basename, dirname, join

from launcher.image.debian.elf import read_library
from launcher.image.debian.linker_merge import Listed, read_cache
from launcher.image.debian.system import System
from launcher.image.tree import Entry

CACHE = "/etc/ld.so.cache"
HEADER = struct.Struct("<20s2IB3x4I")
ENTRY = struct.Struct("<i3IQ")
LITTLE_ENDIAN = 2
DEFAULT_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
MACHINES = {"amd64": (62, 0x0303), "arm64": (183, 0x0A03)}
"""Debian architecture -> ELF e_machine and the cache's flags (FLAG_X8664_LIB64, FLAG_AARCH64_LIB64, FLAG_ELF_LIBC6)."""
LIBRARY = re.compile(r"(?:lib|ld-).*\.so(?:\.|$)")
DIGITS = re.compile(r"\d+|\D")


def linker_cache(system: System) -> None:
    """Write the cache for the architectures whose flags are known; without libc there is nothing to cache.

    Over a base image its own cache is where the list begins: none of its libraries is read again.
    """
    if system.architecture not in MACHINES or ("libc-bin" not in system.packages and system.base is None):
        return
    machine, flags = MACHINES[system.architecture]
    ranks = {folder: rank for rank, folder in enumerate(dict.fromkeys(search_folders(system)))}
    found: dict[str, str] = {}
    for folder in ranks:
        for soname, path in libraries(system, folder, machine).items():
            found.setdefault(soname, path)
    if system.base is None:
        system.write(CACHE, cache_bytes(found, flags))
    elif found:
        listed = read_cache(system.read(CACHE) or b"")
        system.rewrite(CACHE, listed_bytes(beside(listed, found, flags, ranks)))


def beside(listed: list[Listed], found: dict[str, str], flags: int, ranks: dict[str, int]) -> list[Listed]:
    """Put added libraries among a base's: of two of one name the one whose folder is searched first counts."""

    def rank(one: Listed) -> int:
        return ranks.get(dirname(one.path), len(ranks))

    added = [Listed(soname=soname, path=path, flags=flags) for soname, path in found.items()]
    best: dict[tuple[str, int], Listed] = {}
    for one in [*listed, *added]:
        there = best.setdefault((one.soname, one.flags), one)
        best[one.soname, one.flags] = one if rank(one) < rank(there) else there
    return list(best.values())


def search_folders(system: System) -> Iterator[str]:
    """Yield the folders that ldconfig searches, each real folder under its first name."""
    seen = set()
    for folder in (*configured(system, "/etc/ld.so.conf"), *DEFAULT_FOLDERS):
        if (real := system.real(folder)) not in seen:
            seen.add(real)
            yield folder


def configured(system: System, path: str, depth: int = 0) -> Iterator[str]:
    """Read ld.so.conf and what it includes."""
    for raw in (system.text(path) or "").splitlines():
        line = raw.split("#")[0].strip()
        if line.startswith("include ") and depth < 8:
            pattern = join(dirname(path), line.split(None, 1)[1])
            for entry in system.below(dirname(pattern)):
                if fnmatch.fnmatchcase("/" + entry.path, pattern):
                    yield from configured(system, entry.path, depth + 1)
        elif line.startswith("/"):
            yield line.rstrip("/")


def libraries(system: System, folder: str, machine: int) -> dict[str, str]:
    """Return soname -> path of the libraries in one folder. The path ends with the soname, as the loader wants it."""
    found: dict[str, str] = {}
    names = {basename(entry.path) for entry in children(system, folder)}
    if system.base is not None:
        names = {name for name in names if system.is_added(f"{folder}/{name}")}
    for name in sorted(filter(LIBRARY.match, names)):
        entry = system.find(f"{folder}/{name}")
        library = read_library(entry.content) if entry and entry.content else None
        if library and library.machine == machine:
            soname = library.soname or name
            found.setdefault(soname, f"{folder}/{soname if soname in names else name}")
            if name.endswith(".so") and soname != name and soname.startswith(name):
                found.setdefault(name, f"{folder}/{name}")  # ldconfig lists development links, too
    return found


def children(system: System, folder: str) -> Iterator[Entry]:
    real = system.real(folder)
    return (entry for entry in system.below(folder) if dirname(entry.path) == real)


def cache_bytes(libraries: dict[str, str], flags: int) -> bytes:
    return listed_bytes([Listed(soname=soname, path=path, flags=flags) for soname, path in libraries.items()])


def listed_bytes(libraries: list[Listed]) -> bytes:
    """Write the cache. The loader searches it by halves, so the order is part of the format."""
    ordered = sorted(libraries, key=lambda one: (order(one.soname), one.soname, one.flags), reverse=True)
    strings, entries = bytearray(), bytearray()
    start = HEADER.size + ENTRY.size * len(ordered)
    for one in ordered:
        path, soname = (os.fsencode(text) for text in (one.path, one.soname))
        at = start + len(strings)
        strings += path + b"\0"
        key = at + len(path) - len(soname) if path.endswith(b"/" + soname) else 0
        if not key:
            key = start + len(strings)
            strings += soname + b"\0"
        entries += ENTRY.pack(one.flags, key, at, 0, 0)
    head = HEADER.pack(b"glibc-ld.so.cache1.1", len(ordered), len(strings), LITTLE_ENDIAN, 0, 0, 0, 0)
    return head + bytes(entries) + bytes(strings)


def order(name: str) -> list[tuple[int, int]]:
    """The order of _dl_cache_libcmp: runs of digits by their value, above every other character."""
    return [(1, int(part)) if part.isdigit() else (0, ord(part)) for part in DIGITS.findall(name)]
