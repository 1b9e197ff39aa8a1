"""A real Apptainer for the tests, unpacked in a folder: Debian has it in newer suites only, whose libc is newer too.

The package comes from the mirror that this machine is configured for, through the signed index, and is pinned by its
digest there. Apptainer finds its parts by the real path of its own program, so it works wherever it lies.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from launcher.cache import Cache
from launcher.fetch import fetch
from launcher.indexes.apt_packages import Package
from launcher.indexes.apt_source import AptMirror
from launcher.indexes.apt_suite import open_suite
from launcher.lock.model import Deb
from launcher.progress import SILENT

SUITES = ("trixie", "sid")  # the first that has it
PARTS = "usr/lib/x86_64-linux-gnu/apptainer"
BINARIES = ("bin/apptainer", "libexec/apptainer/bin/starter", "libexec/apptainer/lib/offsetpreload.so")
C23 = b"__isoc23_"
OLD = b"GLIBC_2.2.5"  # the first version of symbols on x86-64, which every libc there has
SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM = 11, 0x6FFFFFFE, 0x6FFFFFFF


def installed(cache: Cache) -> Path:
    """Return the program `apptainer` below the cache, unpacked once for each version of the package."""
    deb = newest(cache)
    home = cache.root / "apptainer" / deb.sha256
    if not home.exists():
        [archive] = fetch([deb], cache, sources=[AptMirror()]).values()
        with cache.scratch() as scratch:
            unpack(archive, scratch)
            home.parent.mkdir(parents=True, exist_ok=True)
            try:
                (scratch / "home").rename(home)
            except OSError:  # another process of the tests was first
                if not home.exists():
                    raise
    return home / "bin" / "apptainer"


def newest(cache: Cache) -> Deb:
    found = [package for suite in SUITES for package in packages(suite, cache)]
    assert found, f"none of {', '.join(SUITES)} has apptainer"
    return artifact(found[0])


def packages(suite: str, cache: Cache) -> Iterator[Package]:
    opened = open_suite(suite, "amd64", cache, SILENT)
    try:
        for index in opened.indexes:
            yield from index.named("apptainer")
    finally:
        for index in opened.indexes:
            index.close()


def artifact(package: Package) -> Deb:
    return Deb(
        name=package.name,
        version=package.version,
        filename=package.pool.rpartition("/")[2],
        size=package.size,
        sha256=package.sha256,
        architecture=package.architecture,
        group="apt",
        pool=package.pool,
    )


def unpack(archive: Path, scratch: Path) -> None:
    """Lay the package's folders out as Apptainer looks for them below a prefix, in `home`."""
    subprocess.run(["dpkg-deb", "-x", str(archive), str(scratch / "all")], check=True)
    home = scratch / "home"
    (home / "lib").mkdir(parents=True, mode=0o755)
    for name, source in {"etc": "etc", "var": "var", "bin": "usr/bin", "libexec/apptainer": PARTS}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(scratch / "all" / source, home / name)
    (home / "lib" / "x86_64-linux-gnu").symlink_to("../libexec")
    for name in BINARIES:
        settle(home / name)


def libc_minor() -> int:
    """Return the 36 of "glibc 2.36"."""
    return int(os.confstr("CS_GNU_LIBC_VERSION").rpartition(".")[2])  # type: ignore[union-attr]


def settle(path: Path) -> None:
    """Make a binary that asks for symbols of a newer libc load here: C23's strtol and its like have older names.

    Formats: System V gABI chapter 4, and "Symbol Versioning" of the Linux Standard Base.
    """
    data = bytearray(path.read_bytes())
    needs = list(Needs(data).too_new(libc_minor()))
    if needs:
        Needs(data).replace(needs)
        path.write_bytes(data)


class Needs:
    """The versions of symbols that a 64-bit little-endian ELF file needs, changed where they stand."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        (start,) = struct.unpack_from("<Q", data, 40)
        size, count = struct.unpack_from("<HH", data, 58)
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + at * size) for at in range(count)]
        by_kind = {section[1]: section for section in sections}
        self.symbols, self.needs, self.versions = (by_kind[k] for k in (SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM))
        self.strings, self.strings_size = sections[self.symbols[6]][4:6]

    def name(self, offset: int) -> bytes:
        start = self.strings + offset
        return bytes(self.data[start : self.data.index(0, start)])

    def too_new(self, minor: int) -> Iterator[tuple[int, int]]:
        """Yield (offset of the entry, number that symbols refer to it by)."""
        file = self.needs[4]
        while True:
            _, count, _, first, following = struct.unpack_from("<HHIII", self.data, file)
            entry = file + first
            for _ in range(count):
                _, _, number, name, after = struct.unpack_from("<IHHII", self.data, entry)
                asked = re.fullmatch(rb"GLIBC_2\.(\d+)(?:\.\d+)?", self.name(name))
                if asked and int(asked[1]) > minor:
                    yield entry, number
                entry += after
            if not following:
                return
            file += following

    def replace(self, entries: list[tuple[int, int]]) -> None:
        """Ask for libc's oldest version instead, and for the symbols by the names that they have there."""
        old = self.data.index(b"\0" + OLD + b"\0", self.strings, self.strings + self.strings_size) + 1 - self.strings
        for entry, _ in entries:
            struct.pack_into("<I", self.data, entry, sysv_hash(OLD))
            struct.pack_into("<I", self.data, entry + 8, old)
        numbers = {number for _, number in entries}
        for at in range(self.symbols[5] // 24):
            (version,) = struct.unpack_from("<H", self.data, self.versions[4] + 2 * at)
            if version & 0x7FFF in numbers:
                self.rename(self.symbols[4] + 24 * at)

    def rename(self, symbol: int) -> None:
        """Let the name begin after C23's prefix, within the same string."""
        (offset,) = struct.unpack_from("<I", self.data, symbol)
        name = self.name(offset)
        assert name.startswith(C23), f"{name.decode()} has no older name: this Apptainer needs a newer libc"
        struct.pack_into("<I", self.data, symbol, offset + len(C23))


def sysv_hash(name: bytes) -> int:
    """The hash of gABI chapter 5, "Hash Table"."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value
