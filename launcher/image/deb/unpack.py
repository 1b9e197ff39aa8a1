"""One .deb from its file to its members: checked, decompressed once into scratch, nothing of it executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.cache import disk_full, write_all
from launcher.errors import ImageError
from launcher.image.deb.ar import Part, read_parts
from launcher.image.deb.control import check_stanza, installed_bytes, parse_stanza
from launcher.image.deb.members import read_members
from launcher.image.deb.unpacking import pieces
from launcher.image.tree import Entry
from launcher.lock.model import Deb

CONTROL_LIMIT_BYTES = 64 << 20
LONGEST_SCRIPT_BYTES = 1 << 20
SLACK_BYTES = 16 << 20
TIMES_INSTALLED = 4
TIMES_PACKED = 64
LARGEST_DATA_BYTES = 16 << 30


@dataclass(frozen=True, kw_only=True)
class Package:
    """A .deb that was read: its stanza, the other files of its control archive, and its members.

    `members` have the paths of the archive ("lib/x" may become "usr/lib/x" in a tree), without the root folder.
    """

    deb: Deb
    fields: Mapping[str, str]
    control: Mapping[str, bytes]
    members: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return self.deb.name

    def script(self, name: str) -> str:
        """Return a maintainer script's text, or "" when there is none or it isn't a shell script."""
        data = self.control.get(name, b"")[:LONGEST_SCRIPT_BYTES]
        first = data.split(b"\n", 1)[0]
        return data.decode("utf-8", "replace") if first.startswith(b"#!") and b"sh" in first else ""


def unpack(deb: Deb, path: Path, scratch: Path) -> Package:
    """Read the .deb at `path`; its data lands in `scratch` as one uncompressed file, which members point into.

    The data may unpack to 4 times Installed-Size plus 16 MiB (64 times its packed size where the package doesn't say),
    and to 16 GiB at most. Raises ImageError when the package is damaged, hostile, or not what the lock says.
    """
    parts = read_parts(path, deb.filename)
    control = read_control(path, parts.control, deb, scratch)
    fields = parse_stanza(text_of(control.pop("control", b""), deb), deb.filename)
    check_stanza(fields, deb)
    data = scratch / f"{deb.sha256}.tar"
    write(data, pieces(path, parts.data, deb.filename, data_limit(fields, parts.data)))
    members = read_members(data, f"{deb.filename}: {parts.data.name}")
    return Package(deb=deb, fields=fields, control=control, members=tuple(members))


def data_limit(fields: Mapping[str, str], part: Part) -> int:
    """Return how many bytes a data archive may unpack to."""
    installed = installed_bytes(fields)
    claimed = part.size * TIMES_PACKED if installed is None else installed * TIMES_INSTALLED
    return min(claimed + SLACK_BYTES, LARGEST_DATA_BYTES)


def read_control(path: Path, part: Part, deb: Deb, scratch: Path) -> dict[str, bytes]:
    """Return the files of the control archive by name."""
    tar = scratch / f"{deb.sha256}.control.tar"
    try:
        write(tar, pieces(path, part, deb.filename, CONTROL_LIMIT_BYTES))
        entries = read_members(tar, f"{deb.filename}: {part.name}")
        return {entry.path: b"".join(entry.content.chunks()) for entry in entries if entry.content}
    finally:
        tar.unlink(missing_ok=True)


def text_of(data: bytes, deb: Deb) -> str:
    if not data:
        raise ImageError(f"{deb.filename}: its control archive holds no file `control`")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ImageError(f"{deb.filename}: control: is not UTF-8 at byte {e.start}") from e


def write(path: Path, data: Iterator[bytes]) -> None:
    with disk_full(path.parent), path.open("wb", buffering=0) as stream:
        for piece in data:
            write_all(stream.fileno(), piece)
