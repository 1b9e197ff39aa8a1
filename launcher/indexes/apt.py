"""Which Debian mirrors this machine is configured for: apt's sources, its proxy and its passwords."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.credentials import Login
from launcher.errors import FetchError, ProcessError, Where
from launcher.indexes.apt_distribution import DEBIAN, SOURCES_VARIABLE, Distribution
from launcher.indexes.apt_format import SourceEntry, parse_sources, truth
from launcher.process import run

APT = Path("/etc/apt")
SCHEMES = ("http:", "https:", "file:")
SECURITY = re.compile(r"(-security|/updates)$")
GIVE_SOURCES = DEBIAN.give_sources


@dataclass(frozen=True, kw_only=True)
class AptConfig:
    """What apt is told on this machine. `options` are those of `apt-config dump`, by lower-case name."""

    entries: tuple[SourceEntry, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    logins: tuple[tuple[str, Login], ...] = ()  # by machine, as apt_auth.conf(5) writes it

    @property
    def check_valid_until(self) -> bool:
        return truth(self.options.get("acquire::check-valid-until")) is not False

    @property
    def check_date(self) -> bool:
        return truth(self.options.get("acquire::check-date")) is not False


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A root below which `dists/` and `pool/` lie. A security mirror has the suites `<suite>-security` only."""

    root: str
    security: bool
    suites: Mapping[str, Where]  # those that the sources name, and where
    components: tuple[str, ...]
    signed_by: str
    check_valid_until: bool
    check_date: bool
    where: Where
    distribution: Distribution = DEBIAN


def apt_config() -> AptConfig:
    """Read this machine's apt configuration, or just the sources that $LAUNCHER_APT_SOURCES names.

    With the variable set nothing else of apt is asked: options and passwords belong to the machine's own sources.
    """
    if own := os.environ.get(SOURCES_VARIABLE):
        return AptConfig(entries=read_sources(Path(own).expanduser()))
    files = [APT / "sources.list"] if (APT / "sources.list").is_file() else []
    folder = APT / "sources.list.d"
    entries = tuple(e for path in files for e in read_sources(path)) + (read_sources(folder) if folder.is_dir() else ())
    return AptConfig(entries=entries, options=apt_options(), logins=logins(APT))


def read_sources(place: Path) -> tuple[SourceEntry, ...]:
    """Read a sources file, or every `*.list` and `*.sources` of a folder by name. Raises FetchError."""
    try:
        paths = (
            [place] if not place.is_dir() else sorted(p for p in place.iterdir() if p.suffix in (".list", ".sources"))
        )
        texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    except (OSError, UnicodeDecodeError) as e:
        raise FetchError(f"can't read the apt sources {place}: {e}", hint=GIVE_SOURCES) from e
    return tuple(entry for path, text in texts for entry in parse_sources(text, str(path)))


def apt_options() -> dict[str, str]:
    """Ask `apt-config dump` for apt's options; none on a machine without apt."""
    try:
        text = run(["apt-config", "dump"], timeout_s=20).stdout.decode(errors="replace")
    except ProcessError:
        return {}
    pairs = re.findall(r'^(\S+?) "(.*)";$', text, re.MULTILINE)
    return {name.lower(): value for name, value in pairs}


def logins(apt: Path) -> tuple[tuple[str, Login], ...]:
    """Read auth.conf and auth.conf.d (apt_auth.conf(5)). A file that this user may not read holds nothing for them."""
    found: list[tuple[str, Login]] = []
    for path in [apt / "auth.conf", *sorted((apt / "auth.conf.d").glob("*.conf"))]:
        try:
            words = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            continue
        found += parse_logins(words)
    return tuple(found)


def parse_logins(words: list[str]) -> list[tuple[str, Login]]:
    """Read `machine X login Y password Z` triples."""
    found: list[dict[str, str]] = []
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key == "machine":
            found.append({})
        if found:
            found[-1][key] = value
    return [
        (one["machine"], Login(user=one["login"], password=one["password"]))
        for one in found
        if {"login", "password"} <= one.keys()
    ]


def mirrors(
    config: AptConfig, suite: str, architecture: str, distribution: Distribution = DEBIAN
) -> tuple[Mirror, ...]:
    """Return the roots that may hold `suite`, in the order of the sources, each once for its kind.

    Whether one is the distribution's is known when its Release file has been read. Raises FetchError when there are
    none, or when an entry for this suite can only be read by apt itself (cdrom:, mirror:, tor ...).
    """
    hint = distribution.give_sources
    entries = [e for e in config.entries if not e.architectures or architecture in e.architectures]
    family = {suite, f"{suite}-updates", f"{suite}-security"}
    usable = [e for e in entries if e.uri.startswith(SCHEMES) and not any(s.endswith("/") for s in e.suites[:1])]
    for odd in (e for e in entries if not e.uri.startswith(SCHEMES)):
        if not usable or family & set(odd.suites):
            scheme = odd.uri.partition(":")[0]
            raise FetchError(f"launcher can't read apt sources of kind `{scheme}:`", where=odd.where, hint=hint)
    if not usable:
        raise FetchError(f"this machine's apt sources name no mirror for {architecture}", hint=hint)
    named = [] if distribution.everywhere else [e for e in usable if family & set(e.suites)]
    return tuple(replace(one, distribution=distribution) for one in merge(config, named or usable))


def usable_roots(config: AptConfig) -> tuple[str, ...]:
    """Return every root that launcher can fetch from, in the order of the sources."""
    return tuple(dict.fromkeys(e.root for e in config.entries if e.uri.startswith(SCHEMES)))


def merge(config: AptConfig, entries: list[SourceEntry]) -> tuple[Mirror, ...]:
    """Make one mirror of all entries that share root, kind and key."""
    groups: dict[tuple[str, bool, str], list[tuple[SourceEntry, str]]] = {}
    for one in entries:
        for suite in one.suites:
            groups.setdefault((one.root, SECURITY.search(suite) is not None, one.signed_by), []).append((one, suite))
    return tuple(mirror(config, key, members) for key, members in groups.items())


def mirror(config: AptConfig, key: tuple[str, bool, str], members: list[tuple[SourceEntry, str]]) -> Mirror:
    root, security, signed_by = key
    said = [one.check_valid_until for one, _ in members if one.check_valid_until is not None]
    return Mirror(
        root=root,
        security=security,
        suites={suite: one.where for one, suite in reversed(members)},
        components=tuple(dict.fromkeys(["main", *(c for one, _ in members for c in one.components)])),
        signed_by=signed_by,
        check_valid_until=all(said) if said else config.check_valid_until,
        check_date=config.check_date,
        where=members[0][0].where,
    )
