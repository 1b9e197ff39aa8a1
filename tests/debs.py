"""Writes tiny .debs, honest and hostile, byte by byte, so that no Debian tool is needed to test what reads them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from launcher.lock.model import Deb

COMPRESS = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One tar member; `type` is tar's own letter, `link` the target of a link, `size` a lie about its size."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    mode: int = 0o644
    link: str = ""
    size: int | None = None


def file(name: str, data: bytes | str = b"", mode: int = 0o644) -> Item:
    return Item(name=name, data=data.encode() if isinstance(data, str) else data, mode=mode)


def folder(name: str, mode: int = 0o755) -> Item:
    return Item(name=name, type=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Item:
    return Item(name=name, type=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Item:
    return Item(name=name, type=tarfile.LNKTYPE, link=target)


def tar(items: Sequence[Item], format: int = tarfile.GNU_FORMAT) -> bytes:
    """Write a tar archive as dpkg-deb does, lies included."""
    out = io.BytesIO()
    for item in items:
        info = tarfile.TarInfo(item.name)
        info.type, info.mode, info.linkname = item.type, item.mode, item.link
        info.size = len(item.data) if item.size is None else item.size
        out.write(info.tobuf(format, "utf-8", "surrogateescape"))
        out.write(item.data + bytes(-len(item.data) % 512))
    return out.getvalue() + bytes(1024)


def ar(members: Mapping[str, bytes]) -> bytes:
    """Write an ar archive."""
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package to write. `fields` come on top of the usual ones, `scripts` beside the control file."""

    name: str = "hello"
    version: str = "1.0-1"
    architecture: str = "amd64"
    items: Sequence[Item] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    compression: str = ".xz"
    data: bytes | None = None  # the data archive's bytes, in place of `items`

    def control(self) -> bytes:
        known = {"Package": self.name, "Version": self.version, "Architecture": self.architecture}
        fields = {**known, "Installed-Size": "10", **self.fields}
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        return tar(
            [folder("./"), file("./control", text), *(file(f"./{n}", s, 0o755) for n, s in self.scripts.items())]
        )

    def members(self) -> dict[str, bytes]:
        data = tar([folder("./"), *self.items]) if self.data is None else self.data
        return {
            "debian-binary": b"2.0\n",
            "control.tar.gz": COMPRESS[".gz"](self.control()),
            f"data.tar{self.compression}": COMPRESS[self.compression](data),
        }

    def pin(self, blob: bytes, group: str = "base") -> Deb:
        filename = f"{self.name}_{self.version}_{self.architecture}.deb"
        return Deb(
            name=self.name,
            version=self.version,
            architecture=self.architecture,
            filename=filename,
            size=len(blob),
            sha256=hashlib.sha256(blob).hexdigest(),
            group="base" if group == "base" else "apt",
            pool=f"pool/main/{self.name[0]}/{self.name}/{filename}",
        )

    def write(self, folder: Path, group: str = "base") -> tuple[Deb, Path]:
        """Write the package; return what a lock would pin, and the file."""
        return self.write_blob(folder, ar(self.members()), group)

    def write_blob(self, folder: Path, blob: bytes, group: str = "base") -> tuple[Deb, Path]:
        path = folder / f"{self.name}.deb"
        path.write_bytes(blob)
        return self.pin(blob, group), path
