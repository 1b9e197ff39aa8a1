"""A wheel as entries of the virtual file tree, unpacked as the binary distribution format says, without running it.

Source: PyPA specifications "Binary distribution format", "Recording installed projects", "Entry points" (2026).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.utils import parse_entrypoints, parse_metadata_file
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from launcher.errors import ImageError
from launcher.image.inflate import ZipMember, members
from launcher.image.record import record_bytes
from launcher.image.tree import Bytes, Content, Entry

ENV = "opt/env"
PYTHON = f"/{ENV}/bin/python"
BOMB_RATIO = 200
BOMB_FLOOR_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the schemes of an environment lie, for a Python `X.Y`; paths are relative to the image's root."""

    python: str

    @property
    def site(self) -> str:
        return f"{ENV}/lib/python{self.python}/site-packages"

    def scheme(self, name: str, distribution: str) -> str | None:
        """Return the folder of a `.data` scheme (PyPA: sysconfig's installation paths), or None if unknown."""
        return {
            "purelib": self.site,
            "platlib": self.site,
            "scripts": f"{ENV}/bin",
            "headers": f"{ENV}/include/site/python{self.python}/{distribution}",
            "data": ENV,
        }.get(name)


def read(path: Path, filename: str, python: str) -> list[Entry]:
    """Return the files that a wheel installs (no folders), with a canonical RECORD.

    `filename` is the wheel's own name, `python` is `X.Y`. Raises ImageError for whatever a well-made wheel has not.
    """
    return Wheel(path, filename, Layout(python=python)).entries()


class Wheel:
    """One wheel file on its way into the tree."""

    def __init__(self, path: Path, filename: str, layout: Layout) -> None:
        self.path, self.filename, self.layout = path, filename, layout
        name, version, _, _ = parse_wheel_filename(filename)
        self.name, self.version = name, version
        self.files = members(path, filename)
        self.refuse_bomb()
        self.info = self.dist_info()
        self.check_format()

    def fail(self, what: str, hint: str | None = None) -> ImageError:
        return ImageError(f"{self.filename}: {what}", hint=hint)

    def refuse_bomb(self) -> None:
        unpacked = sum(member.size for member in self.files.values())
        packed = self.path.stat().st_size
        if unpacked > max(BOMB_FLOOR_BYTES, BOMB_RATIO * packed):
            raise self.fail(f"its {packed} bytes unpack to {unpacked}: that is a zip bomb, not a package")

    def dist_info(self) -> str:
        """Return the name of the one `.dist-info` folder, which must be this project's and version's."""
        found = sorted({name.split("/")[0] for name in self.files if name.split("/")[0].endswith(".dist-info")})
        if len(found) != 1:
            raise self.fail(f"it has {len(found)} .dist-info folders ({', '.join(found) or 'none'}), a wheel has one")
        project, _, version = found[0].removesuffix(".dist-info").partition("-")
        if canonicalize_name(project) != self.name or not same_version(version, str(self.version)):
            raise self.fail(f"its .dist-info folder is named {found[0]}, not after the wheel")
        return found[0]

    def text(self, name: str) -> str:
        path = f"{self.info}/{name}"
        if path not in self.files:
            raise self.fail(f"{path} is missing")
        try:
            return b"".join(self.files[path].chunks()).decode()
        except UnicodeDecodeError as e:
            raise self.fail(f"{path} isn't UTF-8") from e

    def check_format(self) -> None:
        version = parse_metadata_file(self.text("WHEEL")).get("Wheel-Version", "")
        if not str(version).strip().startswith("1."):
            raise self.fail(f"its Wheel-Version is {str(version).strip() or 'not told'}; only 1.x is known")
        for name in ("METADATA", "RECORD"):
            self.text(name)

    def entries(self) -> list[Entry]:
        """Return what is installed, sorted by path."""
        placed: dict[str, Entry] = {}
        for entry in [
            *self.unpacked(),
            *self.scripts(),
            self.entry(f"{self.layout.site}/{self.info}/INSTALLER", INSTALLER),
        ]:
            if entry.path in placed:
                raise self.fail(f"two of its files would be /{entry.path}")
            placed[entry.path] = entry
        record = f"{self.layout.site}/{self.info}/RECORD"
        lines = record_bytes(placed.values(), record, self.layout.site, self.recorded())
        placed[record] = self.entry(record, Bytes(lines))
        return [placed[path] for path in sorted(placed)]

    def recorded(self) -> dict[str, str]:
        """Return the digests that the wheel's own RECORD gives, by the path that each file is installed at."""
        found = {}
        for row in csv.reader(self.text("RECORD").splitlines()):
            if len(row) >= 2 and row[1] and row[0] in self.files:
                found[self.place(row[0])[0]] = row[1]
        return found

    def unpacked(self) -> Iterator[Entry]:
        for name, member in self.files.items():
            if skipped(name, self.info):
                continue
            path, is_script = self.place(name)
            content: Content = member
            if is_script:
                content = rewritten(member)
            yield self.entry(path, content, executable=is_script or member.executable)

    def place(self, name: str) -> tuple[str, bool]:
        """Return where a member is installed, and whether it is a script of the `.data` folder."""
        top, _, rest = name.partition("/")
        if not top.endswith(".data"):
            return f"{self.layout.site}/{name}", False
        scheme, _, inner = rest.partition("/")
        folder = self.layout.scheme(scheme, self.distribution)
        if folder is None or not inner:
            raise self.fail(f"{name}: there is no installation scheme {scheme!r}")
        return f"{folder}/{inner}", scheme == "scripts"

    @property
    def distribution(self) -> str:
        return self.info.removesuffix(".dist-info").partition("-")[0]

    def scripts(self) -> Iterator[Entry]:
        """Yield the programs that entry points ask for."""
        if f"{self.info}/entry_points.txt" not in self.files:
            return
        try:
            found = list(parse_entrypoints(self.text("entry_points.txt")))
        except Exception as e:  # configparser's and installer's own, of no common kind
            raise self.fail(f"its entry_points.txt can't be read: {e}") from e
        for name, module, attribute, _ in found:
            if not name or "/" in name or name in (".", ".."):
                raise self.fail(f"entry point {name!r} isn't a program's name")
            yield self.entry(f"{ENV}/bin/{name}", Bytes(script(module, attribute or "")), executable=True)

    def entry(self, path: str, content: Content, *, executable: bool = False) -> Entry:
        return Entry(path, "file", 0o755 if executable else 0o644, content)


INSTALLER = Bytes(b"launcher\n")
NOT_INSTALLED = frozenset(("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json"))


def skipped(name: str, info: str) -> bool:
    """Tell what is never installed: byte code, and files of the `.dist-info` that tell of another installation."""
    if "__pycache__/" in name and "__pycache__" in name.split("/"):
        return True
    folder, _, file = name.rpartition("/")
    return folder == info and file in NOT_INSTALLED


def script(module: str, attribute: str) -> bytes:
    """Return a program that calls an entry point and ends with what it returns."""
    first = attribute.partition(".")[0]
    return (
        f'#!{PYTHON}\nimport sys\n\nfrom {module} import {first}\n\nif __name__ == "__main__":\n'
        f'    sys.argv[0] = sys.argv[0].removesuffix(".exe")\n    sys.exit({attribute}())\n'
    ).encode()


def rewritten(member: ZipMember) -> Content:
    """Point the `#!python` line of a script of the `.data` folder to the image's Python."""
    chunks = member.chunks()
    head = next(chunks, b"")
    for placeholder in (b"#!pythonw", b"#!python"):
        if head.startswith(placeholder):
            body = b"".join((head, *chunks))
            return Bytes(b"#!" + PYTHON.encode() + body[len(placeholder) :])
    return member


def same_version(written: str, expected: str) -> bool:
    """Compare versions as the specification's escaping leaves them."""
    try:
        return Version(written.replace("_", "-")) == Version(expected)
    except InvalidVersion:
        return written == expected
