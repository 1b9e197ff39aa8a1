"""A suite of Debian or Ubuntu as it stands today: its index, updates and security updates, from every mirror."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from launcher.cache import Cache
from launcher.credentials import shown
from launcher.errors import FetchError, ResolveError
from launcher.indexes.apt import Mirror, apt_config, mirrors
from launcher.indexes.apt_distribution import DEBIAN, Distribution
from launcher.indexes.apt_packages import PackageIndex, open_indexes
from launcher.indexes.apt_release import Release, fetch_release
from launcher.indexes.apt_web import Web
from launcher.progress import Progress

WITHOUT_POCKETS = ("sid", "unstable", "experimental")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """`name` is the codename; `indexes` are in the order of the sources, the suite's own first."""

    name: str
    indexes: tuple[PackageIndex, ...]


def open_suite(
    suite: str,
    architecture: str,
    cache: Cache,
    progress: Progress,
    *,
    distribution: Distribution = DEBIAN,
    components: tuple[str, ...] = (),
) -> Suite:
    """Read the indexes of `suite`, `<suite>-updates` and `<suite>-security` where they exist.

    `components` take the place of those that the sources name: what a base image was made from, for instance.
    Raises FetchError (no mirror, bad signature, unreachable, expired), ResolveError (no such suite), IntegrityError.
    """
    config = apt_config()
    web = Web(config)
    pockets = [
        (replace(mirror, components=components or mirror.components), pocket)
        for mirror in mirrors(config, suite, architecture, distribution)
        for pocket in ([f"{suite}-security"] if mirror.security else [suite, f"{suite}-updates"])
        if pocket == suite or suite not in WITHOUT_POCKETS
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda one: fetch_release(web, one[0], one[1], cache, progress), pockets))
    releases = [release for release in found if release and release.origin == distribution.origin]
    check_pockets(distribution, suite, pockets, releases, found)
    tell_missing(suite, pockets, found, progress)
    own = next(release for release in releases if release.suite == suite)
    indexes: list[PackageIndex] = []
    try:
        for release in releases:
            indexes += open_indexes(web, release, architecture, cache, progress)
    except BaseException:
        for index in indexes:
            index.close()
        raise
    return Suite(name=own.codename, indexes=tuple(indexes))


def check_pockets(
    distribution: Distribution,
    suite: str,
    pockets: list[tuple[Mirror, str]],
    releases: list[Release],
    found: list[Release | None],
) -> None:
    """Refuse a suite that isn't there, and a mirror that lacks what the sources say that it has."""
    if not any(release.suite == suite for release in releases):
        asked = ", ".join(dict.fromkeys(shown(mirror.root) for mirror, pocket in pockets if pocket == suite))
        if not asked:
            message = f"this machine's apt sources name no {distribution.origin} mirror, only security updates"
            raise FetchError(message, hint=distribution.give_sources)
        other = "write base: debian:<codename>, such as debian:bookworm; or " if distribution is DEBIAN else ""
        raise ResolveError(
            f"no {distribution.origin} mirror of this machine has the suite `{suite}` (asked: {asked})",
            hint=other + distribution.give_sources,
        )
    for (mirror, pocket), release in zip(pockets, found, strict=True):
        if release is None and pocket in mirror.suites:
            raise FetchError(
                f"{shown(mirror.root)} has no suite {pocket}, which the apt sources name",
                where=mirror.suites[pocket],
                hint="the mirror may be incomplete: name another one",
            )


def tell_missing(
    suite: str, pockets: list[tuple[Mirror, str]], found: list[Release | None], progress: Progress
) -> None:
    """Say which updates are left out because no mirror has them: an old package may be an unsafe one."""
    there = {release.suite for release in found if release}
    for pocket in (f"{suite}-updates", f"{suite}-security") if suite not in WITHOUT_POCKETS else ():
        if pocket not in there:
            asked = ", ".join(shown(mirror.root) for mirror, one in pockets if one == pocket)
            progress.note(f"without {pocket}: {f'{asked} has no such suite' if asked else 'no apt source names it'}")
