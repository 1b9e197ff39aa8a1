"""Choose the sdist that a wheel is built from: its version, its hash, and what its pyproject.toml says of building."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cache import Cache
from launcher.errors import ResolveError
from launcher.fetch import fetch, fill_sizes
from launcher.indexes.pages import Link
from launcher.indexes.settings import Indexes
from launcher.indexes.simple import Folder, LinkPages, wheel_sources
from launcher.indexes.source import Source
from launcher.lock.model import Artifact, Wheel
from launcher.progress import Progress
from launcher.resolve.platform import Platform
from launcher.resolve.workshop import Order
from launcher.toml import parse

if TYPE_CHECKING:
    from packaging.version import Version

LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
LEGACY_REQUIRES = ("setuptools>=40.8.0",)
"""What an sdist without a [build-system] is built with (PEP 517, "Source trees"; PEP 518)."""
LARGEST_PYPROJECT_BYTES = 1 << 20
NO_SDIST = "correct the name under `image.build.packages`, loosen the requirement, or check the configured indexes"
NO_HASH = "ask the index's keeper for sha256 hashes, or put the sdist into a find-links folder"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An sdist that a place has. `sha256` is None where the place doesn't tell."""

    version: Version
    filename: str
    sha256: str | None
    local: bool


def order(
    name: str,
    lines: Sequence[str],
    platform: Platform,
    indexes: Indexes,
    kept: str | None,
    cache: Cache,
    progress: Progress,
) -> tuple[Order, tuple[str, ...]]:
    """Choose and fetch the sdist of a distribution; return what is to be built, and its build requirements.

    `lines` are all requirements and constraints (PEP 508); the newest version that fits those that name it is taken,
    or the version `kept` while it fits. Raises ResolveError, FetchError, IntegrityError.
    """
    sources = wheel_sources(indexes, strict=True)
    chosen = choose(name, lines, platform, offers(name, sources, platform), kept)
    pin = fetched(name, chosen, sources, cache, progress)
    system = build_system(cache.path("artifacts", pin.sha256), pin.filename)
    made = Order(
        name=name,
        version=pin.version,
        sdist=Artifact(name=name, version=pin.version, filename=pin.filename, size=pin.size, sha256=pin.sha256),
        backend=str(system.get("build-backend", LEGACY_BACKEND)),
        backend_path=tuple(map(str, system.get("backend-path", ()))),
        platform=platform,
    )
    return made, tuple(map(str, system.get("requires", LEGACY_REQUIRES)))


def fetched(name: str, chosen: Offer, sources: Sequence[Source], cache: Cache, progress: Progress) -> Wheel:
    """Bring an sdist into the cache. It is asked for as a wheel, since the same places have both."""
    if chosen.sha256 is None:
        raise ResolveError(f"the index gives no sha256 for {chosen.filename}", hint=NO_HASH)
    asked = Wheel(name=name, version=str(chosen.version), filename=chosen.filename, size=0, sha256=chosen.sha256)
    paths = fetch([asked], cache, sources, progress)
    return fill_sizes([asked], paths)[0]


def choose(name: str, lines: Sequence[str], platform: Platform, found: Sequence[Offer], kept: str | None) -> Offer:
    """Return the offer of the wanted version. Raises ResolveError when none fits."""
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(",".join(specifiers(name, lines, platform)))
    by_version = {str(offer.version): offer for offer in sorted(found, key=lambda o: (not o.local, o.filename))[::-1]}
    fitting = sorted(wanted.filter([offer.version for offer in by_version.values()]))
    if not fitting:
        known = ", ".join(map(str, sorted({offer.version for offer in found})[-5:])) or "none"
        raise ResolveError(f"no sdist of {name} fits `{name}{wanted}`: the indexes have {known}", hint=NO_SDIST)
    again = [version for version in fitting if str(version) == kept]
    return by_version[str((again or fitting)[-1])]


def specifiers(name: str, lines: Sequence[str], platform: Platform) -> Iterator[str]:
    """Yield the version specifiers of the lines that name a distribution and count on this platform."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in lines:
        requirement = Requirement(line)
        counts = not requirement.marker or requirement.marker.evaluate(dict(platform.environment()))  # type: ignore[arg-type]
        if canonicalize_name(requirement.name) == name and counts and requirement.specifier:
            yield str(requirement.specifier)


def offers(name: str, sources: Sequence[Source], platform: Platform) -> list[Offer]:
    """Return the sdists of a distribution that any place has for this Python; yanked ones are left out."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    def fits(link: Link) -> bool:
        try:
            wanted = SpecifierSet(link.requires_python or "")
        except InvalidSpecifier:
            return True  # pip passes over what it can't read, too
        return not link.yanked and wanted.contains(platform.python_version, prereleases=True)

    found = [offer for link, local in all_links(name, sources) if fits(link) and (offer := offer_of(name, link, local))]
    return list({(offer.filename, offer.sha256): offer for offer in found}.values())


def all_links(name: str, sources: Sequence[Source]) -> Iterator[tuple[Link, bool]]:
    from launcher.digest import sha256_file
    from launcher.indexes.local import local_path

    for source in sources:
        if isinstance(source, LinkPages):
            page = source.links(source.page_url(Artifact(name=name, version="", filename="", size=0, sha256="")))
            for links in (page or {}).values():
                yield from ((link, local_path(link.url) is not None) for link in links)
        elif isinstance(source, Folder) and source.path.is_dir():
            for path in sorted(source.path.iterdir()):
                if path.name.endswith((".tar.gz", ".zip")) and is_sdist_of(name, path.name):
                    yield Link(filename=path.name, url=path.absolute().as_uri(), sha256=sha256_file(path)[0]), True


def is_sdist_of(name: str, filename: str) -> bool:
    return offer_of(name, Link(filename=filename, url=""), True) is not None


def offer_of(name: str, link: Link, local: bool) -> Offer | None:
    """Read a file name; None when it is no sdist of this distribution."""
    from packaging.utils import InvalidSdistFilename, parse_sdist_filename

    try:
        project, version = parse_sdist_filename(link.filename)
    except (InvalidSdistFilename, ValueError):
        return None
    return Offer(version=version, filename=link.filename, sha256=link.sha256, local=local) if project == name else None


def build_system(path: Path, filename: str) -> dict[str, Any]:
    """Return the [build-system] table of an sdist; an empty one when it has none. Raises ResolveError."""
    try:
        text = read_zip(path) if filename.endswith(".zip") else read_tar(path)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as e:
        raise ResolveError(f"{filename} can't be read: {e}") from e
    if text is None:
        return {}
    table = parse(text.decode("utf-8", "replace"), f"pyproject.toml of {filename}", ResolveError).get("build-system")
    if table is None:
        return {}
    if not isinstance(table, dict) or not isinstance(table.get("requires"), list):
        raise ResolveError(f"{filename}: the [build-system] of its pyproject.toml has no list `requires` (PEP 518)")
    return table


def read_tar(path: Path) -> bytes | None:
    with tarfile.open(path) as archive:
        for member in archive:
            if is_pyproject(member.name) and member.isfile() and (stream := archive.extractfile(member)):
                return stream.read(LARGEST_PYPROJECT_BYTES)
    return None


def read_zip(path: Path) -> bytes | None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if is_pyproject(name):
                with archive.open(name) as stream:
                    return stream.read(LARGEST_PYPROJECT_BYTES)
    return None


def is_pyproject(name: str) -> bool:
    """Tell the file in the sdist's one top folder."""
    return name.removeprefix("./").split("/")[1:] == ["pyproject.toml"]
