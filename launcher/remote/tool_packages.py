"""The packages that launcher needs on a site: the files that are installed here, or a wheel where those don't fit.

Pure Python fits everywhere. obstore is compiled: for another processor, C library or an older Python its wheel comes
from the index that this machine is configured for, once, by its sha256, into the cache.
"""

from __future__ import annotations

import importlib.metadata
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.errors import FetchError, LauncherError
from launcher.progress import Progress
from launcher.remote.contact import Site

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.version import Version

    from launcher.lock.model import Wheel

ALWAYS = ("obstore", "submitit", "cloudpickle", "typing_extensions")
BY_RUNTIME = {"docker": ("docker", "requests", "urllib3", "certifi", "idna", "charset_normalizer")}
OLD_PYTHON = ("tomli",)  # before 3.11, which reads TOML itself
OLDEST = {"obstore": "0.8"}
NOTES = "tools"
GLIBC_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600
MUSL = ("musllinux_1_2", "musllinux_1_1")  # PEP 656


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package and the version that is installed here; "" where it isn't."""

    name: str
    version: str


def packages(site: Site) -> tuple[Package, ...]:
    """Return what a site gets besides launcher itself."""
    names = [*ALWAYS, *(OLD_PYTHON if site.python < (3, 11) else ()), *BY_RUNTIME.get(site.runtime, ())]
    return tuple(Package(name=name, version=installed_version(name)) for name in names)


def installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def files_of(one: Package, site: Site, cache: Cache, progress: Progress) -> list[tuple[str, Path | bytes]]:
    """Return (path in site-packages, content) of a package that fits the site.

    Raises FetchError that says what to do when there is none.
    """
    fitting = tags(site)
    if found := installed(one, fitting):
        return [(name, path) for name, path in found]
    wheel = fetched(one, site, fitting, cache, progress)
    with zipfile.ZipFile(wheel) as archive:
        return [(name, archive.read(name)) for name in archive.namelist() if wanted(name)]


def installed(one: Package, fitting: list[Tag]) -> list[tuple[str, Path]]:
    """Return the files that are installed here, by their RECORD; none where they would not run there."""
    try:
        found = importlib.metadata.distribution(one.name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if not built_for(found) & set(fitting):
        return []
    rows = [(row.as_posix(), Path(str(row.locate()))) for row in found.files or ()]
    return [(name, path) for name, path in rows if wanted(name) and path.is_file()]


def wanted(name: str) -> bool:
    """Tell what of a package is sent: no byte code, no programs, nothing outside of site-packages."""
    return not (name.startswith(("../", "/")) or name.endswith((".pyc", "/")) or ".data/" in name)


def built_for(found: importlib.metadata.Distribution) -> set[Tag]:
    """Return the tags of an installed wheel (binary distribution format, WHEEL)."""
    from packaging.tags import parse_tag

    lines = (found.read_text("WHEEL") or "").splitlines()
    return {tag for line in lines if line.startswith("Tag:") for tag in parse_tag(line[4:].strip())}


def tags(site: Site) -> list[Tag]:
    """Return the tags of wheels that run on a site, the best first."""
    from packaging.tags import compatible_tags, cpython_tags

    places = platforms(site)
    own = cpython_tags(python_version=site.python[:2], platforms=places)
    return [*own, *compatible_tags(python_version=site.python[:2], platforms=places)]


def platforms(site: Site) -> list[str]:
    """Return the platform tags of a C library and processor (PEP 600, PEP 656)."""
    name, version = site.libc
    if name != "glibc":
        return [f"{musl}_{site.machine}" for musl in MUSL]
    found = []
    for minor in range(int(version.split(".")[1]), 4, -1):
        found.append(f"manylinux_2_{minor}_{site.machine}")
        found += [f"{GLIBC_ALIASES[minor]}_{site.machine}"] if minor in GLIBC_ALIASES else []
    return [*found, f"linux_{site.machine}"]


def fetched(one: Package, site: Site, fitting: list[Tag], cache: Cache, progress: Progress) -> Path:
    """Return a wheel that fits, from the cache or from this machine's index. Raises FetchError."""
    key = sha256_bytes(canonical_json([one.name, one.version, *map(str, fitting)]))
    noted = cache.note(NOTES, key)
    if isinstance(noted, str) and (path := cache.find("artifacts", noted)):
        return path
    from launcher.fetch import fetch
    from launcher.indexes.settings import configured
    from launcher.indexes.simple import wheel_sources

    try:
        sources = wheel_sources(configured(), strict=True)
        wheel = choose(one, fitting, [offer for source in sources for offer in offers(one, source)])
        path = fetch([wheel], cache, sources, progress)[wheel.sha256]
    except LauncherError as e:
        raise FetchError.of([*e.problems, FetchError(missing(one, site), hint=hint(one, site)).problems[0]]) from e
    cache.write_note(NOTES, key, wheel.sha256)
    return path


def missing(one: Package, site: Site) -> str:
    python, libc = ".".join(map(str, site.python)), " ".join(site.libc) or "no glibc"
    return f"{site.where} needs {one.name} for Python {python}, {site.machine}, {libc}, and it can't be had from here"


def hint(one: Package, site: Site) -> str:
    return (
        "put its wheel into a find-links folder of pip's settings here, or run launcher once where an index answers; "
        f"or let {site.where} have the Python of this machine by `python` or `setup` of the target"
    )


def offers(one: Package, source: Any) -> list[tuple[str, str]]:
    """Return (file name, sha256) of what a place offers; nothing where it can't be asked."""
    from launcher.digest import sha256_file
    from launcher.indexes.simple import Folder, LinkPages
    from launcher.lock.model import Wheel

    if isinstance(source, Folder):
        found = sorted(source.path.glob("*.whl"))
        return [(path.name, sha256_file(path)[0]) for path in found if path.name.startswith(f"{one.name}-")]
    if not isinstance(source, LinkPages):
        return []
    project = Wheel(name=one.name.replace("_", "-"), version="", filename="", size=0, sha256="")
    pages = source.links(source.page_url(project)) or {}
    return [
        (link.filename, link.sha256) for links in pages.values() for link in links if link.sha256 and not link.yanked
    ]


def choose(one: Package, fitting: list[Tag], offered: list[tuple[str, str]]) -> Wheel:
    """Return the newest wheel that fits, none newer than what is installed here. Raises FetchError."""
    from packaging.version import Version

    newest = Version(one.version) if one.version else None
    oldest = Version(OLDEST.get(one.name, "0"))
    ranks = {tag: -place for place, tag in reversed(list(enumerate(fitting)))}
    found = []
    for filename, sha256 in offered:
        version, rank = judged(filename, ranks)
        if version is not None and rank is not None and oldest <= version and (newest is None or version <= newest):
            found.append((version, rank, filename, sha256))
    if not found:
        raise FetchError(f"no index or folder that this machine is configured for has a wheel of {one.name} that fits")
    version, _, filename, sha256 = max(found)
    from launcher.lock.model import Wheel

    return Wheel(name=one.name.replace("_", "-"), version=str(version), filename=filename, size=0, sha256=sha256)


def judged(filename: str, ranks: dict[Tag, int]) -> tuple[Version | None, int | None]:
    """Return a wheel's version and how well it fits; None where it is no wheel, a pre-release, or doesn't fit."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        _, version, _, built = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None, None
    if version.is_prerelease:
        return None, None
    return version, max((ranks[tag] for tag in built if tag in ranks), default=None)
