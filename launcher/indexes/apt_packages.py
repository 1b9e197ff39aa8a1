"""The packages of one suite: a Packages index, verified, and kept as a small database that is opened in a moment.

Reading bookworm's 50 MB of text takes seconds; a database of just the fields that a resolution needs, keyed by the
Packages file's sha256, answers in microseconds and stays right for as long as that sha256 is the one that is signed.
"""

from __future__ import annotations

import gzip
import lzma
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.cache import Cache
from launcher.credentials import shown
from launcher.digest import SHA256, sha256_bytes, sha256_file
from launcher.errors import FetchError, IntegrityError
from launcher.indexes.apt_release import Release
from launcher.indexes.apt_web import Web
from launcher.progress import Progress

FORMAT = 2
"""Raise it when the columns or the reading change: older databases are then made anew."""

FIELDS = (
    "Package|Version|Architecture|Essential|Priority|Multi-Arch|Pre-Depends|Depends|Provides|Conflicts|Breaks"
    "|Filename|Size|SHA256"
)
FIELD = re.compile(rf"^({FIELDS}):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)
SMALL = 10_000
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
VERSION = re.compile(r"[A-Za-z0-9.+~:-]{1,256}")
POOL = re.compile(r"(?!/)(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9+.~_%:/-]+\.deb")
PROVIDED = re.compile(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)")


class Package(NamedTuple):
    """A binary package as an index lists it: relations in Debian's notation (Policy, chapter 7), size in bytes.

    A named tuple, because sixty thousand are made at once and it is made twice as fast as a dataclass.
    """

    name: str
    version: str
    architecture: str
    essential: int
    priority: str
    multi_arch: str
    pre_depends: str
    depends: str
    provides: str
    conflicts: str
    breaks: str
    pool: str
    size: int
    sha256: str


COLUMNS = Package._fields
SCHEMA = f"""
create table packages ({", ".join(COLUMNS)});
create table provides (name, package);
"""
INDEXES = """
create index by_name on packages (name);
create index by_provided on provides (name);
create index by_essential on packages (essential) where essential;
"""


class PackageIndex:
    """The packages of one Packages file."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        count = self.database.execute("select count(*) from packages").fetchone()[0]
        self.known = self.all_names() if count <= SMALL else None  # so that most questions need no query

    def all_names(self) -> frozenset[str]:
        return frozenset(
            row[0] for row in self.database.execute("select name from packages union select name from provides")
        )

    def named(self, name: str) -> list[Package]:
        """Return every version of a package."""
        return self.select("where name = ?", name) if self.known is None or name in self.known else []

    def providers(self, name: str) -> list[Package]:
        """Return the packages whose Provides names `name`."""
        where = "where rowid in (select package from provides where name = ?)"
        return self.select(where, name) if self.known is None or name in self.known else []

    def essential(self) -> list[Package]:
        """Return the packages that call themselves Essential (Policy, 3.8)."""
        return self.select("where essential")

    def names(self) -> list[str]:
        """Return every package's name: for a guess at what was meant."""
        return [row[0] for row in self.database.execute("select distinct name from packages")]

    def select(self, condition: str, *values: str) -> list[Package]:
        rows = self.database.execute(f"select {', '.join(COLUMNS)} from packages {condition} order by rowid", values)
        return [Package(*row) for row in rows]

    def close(self) -> None:
        self.database.close()


def open_indexes(web: Web, release: Release, architecture: str, cache: Cache, progress: Progress) -> list[PackageIndex]:
    """Open the index of every component that the sources name. Raises FetchError, IntegrityError."""
    found = []
    for component in release.mirror.components:
        for folder in folders(release, component, architecture):
            listed = choose(release, folder)
            if listed:
                found.append(open_index(web, release, folder, *listed, cache, progress))
            elif component == "main" and folder.endswith(f"binary-{architecture}"):
                raise FetchError(f"{shown(release.place)} lists no packages for {architecture}")
    return found


def folders(release: Release, component: str, architecture: str) -> list[str]:
    """Return where a component's packages are listed; `all` is apart only where the Release says so."""
    words = release.fields.get("Architectures", "").split()
    apart = "all" in words and "Packages" not in release.fields.get("No-Support-for-Architecture-all", "").split()
    return [f"{component}/binary-{one}" for one in (architecture, *(["all"] if apart else []))]


def choose(release: Release, folder: str) -> tuple[str, str, int] | None:
    """Return (file name, sha256, size) of the smallest form of a folder's Packages."""
    for name in ("Packages.xz", "Packages.gz", "Packages"):
        if listed := release.sums.get(f"{folder}/{name}"):
            return name, *listed
    return None


def open_index(
    web: Web, release: Release, folder: str, name: str, sha256: str, size: int, cache: Cache, progress: Progress
) -> PackageIndex:
    """Open the database of one Packages file; download and read the file when it is new."""
    noted = cache.note("apt-packages", f"{sha256}-{FORMAT}")
    path = cache.find("artifacts", noted) if isinstance(noted, str) else None
    if path is None:
        data = download(web, release, folder, name, sha256, size, progress)
        path = build(unpack(data, name, f"{shown(release.place)}/{folder}/{name}"), cache)
        cache.write_note("apt-packages", f"{sha256}-{FORMAT}", path.name)
    return PackageIndex(path)


def download(web: Web, release: Release, folder: str, name: str, sha256: str, size: int, progress: Progress) -> bytes:
    """Fetch a Packages file whole (10 MB for Debian's main) and check it against the signed Release."""
    hashed = [f"{folder}/by-hash/SHA256/{sha256}"] if release.by_hash else []
    for path in (*hashed, f"{folder}/{name}"):
        url = f"{release.place}/{path}"
        with progress.task(f"{release.suite} packages", size) as task, web.stream(url) as stream:
            if stream is None:
                continue
            data = b""
            while len(data) <= size and (chunk := stream.read(1 << 18)):
                data += chunk
                task.advance(len(chunk))
        if len(data) == size and sha256_bytes(data) == sha256:
            return data
        raise IntegrityError(
            f"{shown(url)} is not what the signed Release promises (sha256 {sha256[:12]}..., {size} bytes)",
            hint="the mirror may be in the middle of an update: try again in some minutes, or name another mirror",
        )
    raise FetchError(f"{shown(release.place)}/{folder}/{name} is listed in the Release file but is not there")


def unpack(data: bytes, name: str, place: str) -> str:
    """Decompress a Packages file."""
    try:
        raw = lzma.decompress(data) if name.endswith(".xz") else gzip.decompress(data) if name.endswith(".gz") else data
        return raw.decode()
    except (lzma.LZMAError, OSError, EOFError, UnicodeDecodeError) as e:
        raise FetchError(f"{place} can't be read: {e}") from e


def build(text: str, cache: Cache) -> Path:
    """Write the database of a Packages text into the cache; return its path there."""
    with cache.scratch() as scratch:
        path = scratch / "packages.sqlite"
        database = sqlite3.connect(path, isolation_level=None)
        try:
            database.executescript("pragma journal_mode = off; pragma synchronous = off;" + SCHEMA)
            database.execute("begin")
            fill(database, parse(text))
            database.execute("commit")
            database.executescript(INDEXES)
        finally:
            database.close()
        return cache.adopt("artifacts", sha256_file(path)[0], path)


def fill(database: sqlite3.Connection, packages: Iterable[Package]) -> None:
    provided: list[tuple[str, int]] = []

    def rows() -> Iterator[Package]:
        for number, package in enumerate(packages, 1):
            provided.extend((name, number) for name in PROVIDED.findall(package.provides))
            yield package

    database.executemany(f"insert into packages values ({', '.join('?' * len(COLUMNS))})", rows())
    database.executemany("insert into provides values (?, ?)", provided)


def parse(text: str) -> Iterator[Package]:
    """Read the stanzas of a Packages text; one that can't be a package (no version, an odd path) is left out."""
    for stanza in text.split("\n\n"):
        folded = "\n " in stanza or "\n\t" in stanza
        said = dict(FIELD.findall(stanza)) if folded else dict_of(stanza)
        if package := read_stanza(said):
            yield package


def dict_of(stanza: str) -> dict[str, str]:
    """Split a stanza in which every field is one line, as Debian writes them."""
    return {name: value for name, _, value in [line.partition(": ") for line in stanza.split("\n")]}


def read_stanza(said: dict[str, str]) -> Package | None:
    """Make a package of a stanza's fields; None when it lacks what every package has."""
    name, version, pool, size = (said.get(key, "").strip() for key in ("Package", "Version", "Filename", "Size"))
    digest = said.get("SHA256", "").strip()
    if not (NAME.fullmatch(name) and VERSION.fullmatch(version) and POOL.fullmatch(pool) and size.isdigit()):
        return None
    return Package(
        name,
        version,
        said.get("Architecture", "").strip(),
        int(said.get("Essential", "").strip() == "yes"),
        said.get("Priority", "optional").strip(),
        said.get("Multi-Arch", "").strip(),
        said.get("Pre-Depends", ""),
        said.get("Depends", ""),
        said.get("Provides", ""),
        said.get("Conflicts", ""),
        said.get("Breaks", ""),
        pool,
        int(size),
        digest if SHA256.fullmatch(digest) else "",
    )
