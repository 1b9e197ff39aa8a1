"""What this machine says of registries: which may be asked without TLS, and which mirrors go first.

Read from containers-registries.conf(5), Docker's daemon.json ("insecure-registries", "registry-mirrors") and
$LAUNCHER_INSECURE_REGISTRIES (hosts with their ports, separated by commas or spaces). Nothing of it reaches a lock.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launcher import toml
from launcher.errors import FetchError
from launcher.registry.reference import HUB, Reference, bare_host, is_loopback


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A place that has what another has. `pulls` is containers-registries.conf's word: all, digest-only or tag-only."""

    location: str
    insecure: bool = False
    pulls: str = "all"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is said of all repositories that begin with `prefix`."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a reference is asked for: itself, or the same image elsewhere."""

    reference: Reference
    insecure: bool
    mirror: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of it. `insecure` holds hosts, hosts with ports, and networks as 10.0.0.0/8."""

    rules: tuple[Rule, ...] = ()
    insecure: tuple[str, ...] = ()

    def places(self, reference: Reference, *, mirrors: bool = True) -> list[Place]:
        """Return where to ask, mirrors first. Raises FetchError when the configuration blocks this registry."""
        rule = next((rule for rule in self.rules if covers(rule.prefix, reference.repository)), None)
        if rule is None:
            return [self.place(reference, insecure=False)]
        if rule.blocked:
            message = f"this machine's registries.conf blocks {rule.prefix}"
            raise FetchError(message, hint="take the image from another registry, or ask whoever keeps that file")
        found = [self.place(moved(reference, rule.prefix, rule.location), insecure=rule.insecure)]
        usable = [mirror for mirror in rule.mirrors if mirrors and fits(mirror, reference)]
        others = [(moved(reference, rule.prefix, mirror.location), mirror.insecure) for mirror in usable]
        return [replace(self.place(at, insecure=loose), mirror=True) for at, loose in others] + found

    def place(self, reference: Reference, *, insecure: bool) -> Place:
        host = reference.host
        return Place(reference=reference, insecure=insecure or is_loopback(host) or self.names(host))

    def names(self, host: str) -> bool:
        return any(entry in (host, bare_host(host)) or in_network(host, entry) for entry in self.insecure)


def registry_settings(environ: Mapping[str, str] = os.environ, *, etc: Path = Path("/etc")) -> Settings:
    """Read this machine's configuration. Raises FetchError when a file can't be read."""
    daemon = daemon_settings(etc / "docker" / "daemon.json")
    rules = {rule.prefix: rule for path in files(environ, etc) for rule in read(path)}
    hub = tuple(hub_mirror(url) for url in daemon.get("registry-mirrors", ()))
    if hub and HUB not in rules:
        rules[HUB] = Rule(prefix=HUB, location=HUB, mirrors=hub)
    own = re.split(r"[,\s]+", environ.get("LAUNCHER_INSECURE_REGISTRIES", ""))
    longest_first = sorted(rules.values(), key=lambda rule: -len(rule.prefix))
    return Settings(
        rules=tuple(longest_first),
        insecure=tuple(host.lower() for host in (*own, *daemon.get("insecure-registries", ())) if host),
    )


def files(environ: Mapping[str, str], etc: Path) -> Iterator[Path]:
    """Yield the files that exist, the weakest first (containers-registries.conf.d(5): drop-ins go over the file)."""
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config") / "containers"
    system = etc / "containers"
    if own := environ.get("CONTAINERS_REGISTRIES_CONF"):
        places = [Path(own)]
    else:
        mine = home / "registries.conf"
        places = [mine if mine.is_file() else system / "registries.conf"]
        places += [path for at in (system, home) for path in sorted((at / "registries.conf.d").glob("*.conf"))]
    yield from (path for path in places if path.is_file())


def read(path: Path) -> list[Rule]:
    try:
        told = toml.parse(path.read_text(encoding="utf-8"), str(path), FetchError, hint="mend that file")
        return [rule_of(entry) for entry in told.get("registry", ()) if entry.get("prefix") or entry.get("location")]
    except (OSError, UnicodeDecodeError, AttributeError, TypeError, KeyError) as e:
        raise FetchError(f"can't read {path}: {e}", hint="containers-registries.conf(5) says how it is written") from e


def rule_of(entry: Mapping[str, Any]) -> Rule:
    by_digest = "digest-only" if entry.get("mirror-by-digest-only") else "all"
    prefix = str(entry.get("prefix") or entry["location"])
    mirrors = tuple(
        Mirror(
            location=str(mirror["location"]),
            insecure=mirror.get("insecure") is True,
            pulls=str(mirror.get("pull-from-mirror") or by_digest),
        )
        for mirror in entry.get("mirror", ())
    )
    return Rule(
        prefix=prefix,
        location=str(entry.get("location") or prefix),
        insecure=entry.get("insecure") is True,
        blocked=entry.get("blocked") is True,
        mirrors=mirrors,
    )


def daemon_settings(path: Path) -> dict[str, list[str]]:
    """Return the lists of Docker's daemon.json; a file that isn't for this user's eyes says nothing."""
    try:
        told = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError) as e:
        raise FetchError(f"can't read {path}: it is not JSON", hint="mend that file") from e
    lists = told if isinstance(told, dict) else {}
    return {key: [str(item) for item in value] for key, value in lists.items() if isinstance(value, list)}


def hub_mirror(url: str) -> Mirror:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    return Mirror(location=f"{parts.netloc}{parts.path.rstrip('/')}", insecure=parts.scheme == "http")


def covers(prefix: str, repository: str) -> bool:
    """Tell whether a rule is for a repository: at the bounds of parts; `*.example.org` is for hosts below."""
    if prefix.startswith("*."):
        return bare_host(repository.partition("/")[0]).endswith(prefix[1:])
    return repository == prefix or repository.startswith(f"{prefix}/")


def moved(reference: Reference, prefix: str, location: str) -> Reference:
    """Return where a rule's location has the same image."""
    if prefix.startswith("*."):
        return reference if location == prefix else replace(reference, host=location.partition("/")[0])
    host, _, name = (location + reference.repository[len(prefix) :]).partition("/")
    return replace(reference, host=host, name=name)


def fits(mirror: Mirror, reference: Reference) -> bool:
    return mirror.pulls == "all" or (mirror.pulls == "digest-only") == (reference.digest is not None)


def in_network(host: str, entry: str) -> bool:
    try:
        return "/" in entry and ipaddress.ip_address(bare_host(host)) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
