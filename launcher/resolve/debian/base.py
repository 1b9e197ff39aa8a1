"""What a base image brings to a resolution: its packages, and which archives its own apt was told of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import basename
from urllib.parse import urlsplit

from launcher.credentials import shown
from launcher.errors import FetchError, ResolveError
from launcher.image.base.tree import BaseTree
from launcher.image.debian.installed import installed
from launcher.indexes.apt_distribution import DISTRIBUTIONS, Distribution
from launcher.indexes.apt_format import SourceEntry, parse_sources
from launcher.indexes.apt_packages import Package

SOURCES = "etc/apt/sources.list"
SOURCES_PARTS = "etc/apt/sources.list.d"
POCKETS = ("", "-updates", "-security", "-backports", "-proposed")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The packages of a base by name: they stay as they are. `foreign` names its sources of other archives."""

    packages: Mapping[str, Package] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    components: tuple[str, ...] = ()


EMPTY = Ground()


def distribution_of(system: str, base: BaseTree) -> Distribution:
    """Return whose packages fit a base. Raises ResolveError for what is neither Debian nor Ubuntu."""
    found = DISTRIBUTIONS.get(system)
    if found is None:
        raise ResolveError(
            f"the base is `{system}`, and `apt:` adds packages to Debian and Ubuntu only",
            hint="take another base, or install them in a Containerfile (`image.containerfile`)",
        )
    return found


def read_ground(base: BaseTree, suite: str, architecture: str, distribution: Distribution) -> Ground:
    """Read a base's dpkg status and apt sources. Raises ResolveError when dpkg knows of no package there."""
    packages = {p.name: p for p in map(package, installed(base)) if p.architecture in (architecture, "all")}
    if not packages:
        raise ResolveError(
            f"the base has no package of {architecture} in its dpkg status, so nothing is known of what it has",
            hint="take a base that kept /var/lib/dpkg, or install what you need in a Containerfile",
        )
    entries = list(sources(base))
    own = [entry for entry in entries if is_own(entry, entries, suite, distribution)]
    return Ground(
        packages=packages,
        foreign=tuple(dict.fromkeys(told(entry) for entry in entries if entry not in own)),
        components=tuple(dict.fromkeys(["main", *(c for entry in own for c in entry.components)])),
    )


def package(fields: Mapping[str, str]) -> Package:
    """Make a package of a stanza; where it came from isn't known, nor needed."""
    return Package(
        fields["Package"],
        fields["Version"],
        fields.get("Architecture", ""),
        int(fields.get("Essential") == "yes"),
        fields.get("Priority", "optional"),
        fields.get("Multi-Arch", ""),
        fields.get("Pre-Depends", ""),
        fields.get("Depends", ""),
        fields.get("Provides", ""),
        fields.get("Conflicts", ""),
        fields.get("Breaks", ""),
        "",
        0,
        "",
    )


def sources(base: BaseTree) -> Iterator[SourceEntry]:
    """Yield the entries of a base's apt sources; a file that can't be understood says nothing."""
    parts = [f"{SOURCES_PARTS}/{n}" for n in base.names(SOURCES_PARTS) if n.endswith((".list", ".sources"))]
    for path in (SOURCES, *parts):
        text = base.text(path)
        try:
            yield from parse_sources(text, f"/{path}") if text else ()
        except FetchError:
            continue


def is_own(entry: SourceEntry, entries: Iterable[SourceEntry], suite: str, distribution: Distribution) -> bool:
    """Tell whether an entry is of the distribution itself: by its suite, and by a host of its own sources file."""
    hosts = {urlsplit(one.uri).hostname for one in entries if is_main_file(one, distribution)}
    family = {suite + pocket for pocket in POCKETS}
    return urlsplit(entry.uri).hostname in hosts and bool(family & set(entry.suites))


def is_main_file(entry: SourceEntry, distribution: Distribution) -> bool:
    return basename(entry.where.file) in ("sources.list", f"{distribution.name}.sources")


def told(entry: SourceEntry) -> str:
    return f"{entry.where.file} ({shown(entry.uri)} {' '.join(entry.suites)})"
