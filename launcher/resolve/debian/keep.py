"""What the lock before had pinned: kept for as long as its needs are known, even when the mirror has dropped it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from launcher.cache import Cache
from launcher.indexes.apt_packages import Package, PackageIndex
from launcher.lock.model import Deb
from launcher.progress import Progress

NOTES = "debs"


class Upgrade(Protocol):
    """Which pins of the previous lock are let go."""

    @property
    def all(self) -> bool: ...
    @property
    def packages(self) -> frozenset[str]: ...


def keep(
    previous: Iterable[Deb],
    upgrade: Upgrade,
    suite: str,
    indexes: tuple[PackageIndex, ...],
    architecture: str,
    cache: Cache,
    progress: Progress,
) -> dict[str, Package]:
    """Return what stays pinned, by name. What nothing is known of any more is told and left out."""
    kept = {}
    for deb in previous:
        if upgrade.all or deb.name in upgrade.packages or deb.architecture not in (architecture, "all"):
            continue
        if package := listed(deb, indexes) or remembered(deb, suite, cache):
            kept[deb.name] = package
        else:
            progress.note(
                f"{deb.name} {deb.version} has left the mirror and its needs aren't known here: resolved anew"
            )
    return kept


def listed(deb: Deb, indexes: tuple[PackageIndex, ...]) -> Package | None:
    """Find a pinned package in today's indexes; its sha256 decides, not its version."""
    return next((p for i in indexes for p in i.named(deb.name) if p.sha256 == deb.sha256), None)


def remembered(deb: Deb, suite: str, cache: Cache) -> Package | None:
    """Find what an earlier resolution of this suite noted of a package; a note of another shape is as good as none.

    Another suite's packages are not remembered here, so that a spec that moves to a new suite takes none along.
    """
    note = cache.note(NOTES, f"{suite}-{deb.sha256}")
    try:
        package = Package(**note) if isinstance(note, dict) else None
    except TypeError:
        return None
    same = package and (package.name, package.version, package.sha256) == (deb.name, deb.version, deb.sha256)
    return package._replace(pool=deb.pool, size=deb.size) if package and same else None


def remember(cache: Cache, suite: str, packages: Iterable[Package]) -> None:
    """Note the needs of what was chosen, so that it can stay pinned after it has left the mirror."""
    for package in packages:
        if package.sha256 and cache.note(NOTES, f"{suite}-{package.sha256}") is None:
            cache.write_note(NOTES, f"{suite}-{package.sha256}", package._asdict())
