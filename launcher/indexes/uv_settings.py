"""Read uv's settings that say where packages come from: uv.toml of the system and the user, then UV_* variables.

Names and order are uv's (uv documentation, "Configuration files" and "Package indexes"): variables go before the
user's file, and that before the system's; lists are joined, single values replaced. Settings that change *what* is
chosen (resolution, prerelease, constraints ...) are left out: a lock depends on its spec, not on who made it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.credentials import Login, with_login
from launcher.errors import FetchError
from launcher.toml import parse


@dataclass(frozen=True, kw_only=True)
class UvSettings:
    """The parts of uv's settings that name places. URLs may hold logins: they are not in the repr."""

    default: str | None = field(default=None, repr=False)
    indexes: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    insecure_hosts: tuple[str, ...] = ()
    strategy: str | None = None
    keyring: str | None = None


def uv_settings(environ: Mapping[str, str], *, etc: Path = Path("/etc")) -> UvSettings:
    """Return uv's settings on this machine. Raises FetchError when a file of it can't be read."""
    if environ.get("UV_NO_CONFIG"):
        levels = [from_variables(environ)]
    else:
        levels = [from_variables(environ), *(from_file(path, environ) for path in files(environ, etc))]
    return UvSettings(
        default=first(level.default for level in levels),
        indexes=unique(url for level in levels for url in level.indexes),
        find_links=unique(place for level in levels for place in level.find_links),
        no_index=any(level.no_index for level in levels),
        insecure_hosts=unique(host for level in levels for host in level.insecure_hosts),
        strategy=first(level.strategy for level in levels),
        keyring=first(level.keyring for level in levels),
    )


def files(environ: Mapping[str, str], etc: Path) -> Iterator[Path]:
    """Yield the files that exist, the strongest first; UV_CONFIG_FILE stands for all of them."""
    if own := environ.get("UV_CONFIG_FILE"):
        yield Path(own)
        return
    home = Path(environ.get("HOME") or Path.home())
    site_wide = (environ.get("XDG_CONFIG_DIRS") or str(etc / "xdg")).split(os.pathsep)
    system = [Path(folder) / "uv" / "uv.toml" for folder in site_wide if folder] + [etc / "uv" / "uv.toml"]
    places = [Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv" / "uv.toml", *system]
    yield from (path for path in places if path.is_file())


def from_variables(environ: Mapping[str, str]) -> UvSettings:
    indexes = environ.get("UV_INDEX", "").split() + environ.get("UV_EXTRA_INDEX_URL", "").split()
    default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    return UvSettings(
        default=named(default, environ) if default else None,
        indexes=tuple(named(index, environ) for index in indexes),
        find_links=tuple(filter(None, map(str.strip, environ.get("UV_FIND_LINKS", "").split(",")))),
        no_index=environ.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on"),
        insecure_hosts=tuple(environ.get("UV_INSECURE_HOST", "").split()),
        strategy=environ.get("UV_INDEX_STRATEGY") or None,
        keyring=environ.get("UV_KEYRING_PROVIDER") or None,
    )


def from_file(path: Path, environ: Mapping[str, str]) -> UvSettings:
    """Read one uv.toml. What stands below [pip] goes before the top, as uv does for `uv pip`."""
    try:
        raw = parse(path.read_text(encoding="utf-8"), str(path), FetchError, hint="mend that file")
    except (OSError, UnicodeDecodeError) as e:
        raise FetchError(f"can't read uv's settings in {path}: {type(e).__name__}", hint="mend that file") from e
    below = raw.get("pip")
    values = {**raw, **(below if isinstance(below, dict) else {})}
    tables = [table for table in listed(values.get("index")) if isinstance(table, dict) and not table.get("explicit")]
    defaults = [login_of(table, environ) for table in tables if table.get("default")] + texts(values.get("index-url"))
    return UvSettings(
        default=first(defaults),
        indexes=(
            *(login_of(table, environ) for table in tables if not table.get("default")),
            *texts(values.get("extra-index-url")),
        ),
        find_links=tuple(texts(values.get("find-links"))),
        no_index=values.get("no-index") is True,
        insecure_hosts=tuple(texts(values.get("allow-insecure-host"))),
        strategy=first(texts(values.get("index-strategy"))),
        keyring=first(texts(values.get("keyring-provider"))),
    )


def named(index: str, environ: Mapping[str, str]) -> str:
    """Read `name=url`, or just a URL."""
    name, equals, url = index.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        return index
    return login_of({"name": name, "url": url}, environ)


def login_of(table: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return an index's URL with the login that UV_INDEX_<NAME>_USERNAME and _PASSWORD give."""
    name = re.sub(r"[^A-Z0-9]", "_", str(table.get("name", "")).upper())
    user, password = (environ.get(f"UV_INDEX_{name}_{part}", "") for part in ("USERNAME", "PASSWORD"))
    return with_login(str(table["url"]), Login(user=user, password=password) if user or password else None)


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [item for item in listed(value) if isinstance(item, str)]


def first(values: Any) -> Any:
    return next((value for value in values if value), None)


def unique(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
