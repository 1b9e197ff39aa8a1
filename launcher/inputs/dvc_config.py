"""Where a repository's DVC keeps contents: its cache on this machine, and its default remote."""

from __future__ import annotations

import configparser
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import SpecError

if TYPE_CHECKING:
    from launcher.store.objects import Store

REMOTE = re.compile(r"""'?remote\s+"(.+)"'?""")
SCHEMES = {"s3": "s3", "gs": "gs", "azure": "az"}  # DVC's word -> ours
SETTINGS = {
    "endpointurl": "endpoint",
    "region": "region",
    "account_name": "account",
}  # DVC's -> `launcher.store.access`


def places(file: Path) -> list[Callable[[], Store]]:
    """Return how to open the caches of the repository that a `.dvc` file is in: the local one, then the remote."""
    if (home := find(file)) is None:
        return []
    config = settings(home)
    return [*local_caches(home, config), *remotes(home, config)]


def find(file: Path) -> Path | None:
    """Return the `.dvc` folder of a file's repository."""
    found = (folder / ".dvc" for folder in file.absolute().parents)
    return next((folder for folder in found if folder.is_dir()), None)


def settings(home: Path) -> configparser.ConfigParser:
    """Read `config`, and `config.local` over it. Raises SpecError."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read([home / "config", home / "config.local"], encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as e:
        raise SpecError(f"the settings of DVC in {home} can't be read: {e}") from e
    return config


def local_caches(home: Path, config: configparser.ConfigParser) -> Iterator[Callable[[], Store]]:
    folder = home / config.get("cache", "dir", fallback="cache")
    if folder.is_dir():
        yield lambda: opened(str(folder.resolve()), {})


def remotes(home: Path, config: configparser.ConfigParser) -> Iterator[Callable[[], Store]]:
    """Yield how the default remote is opened."""
    wanted = config.get("core", "remote", fallback=None)
    for section in config.sections():
        if (match := REMOTE.fullmatch(section)) and match[1] == wanted and (url := config[section].get("url")):
            told = dict(config[section])
            yield functools.partial(opened, address(url, home), told)


def address(url: str, home: Path) -> str:
    """Return a remote's URL in our words; a path counts from the settings' folder. Raises SpecError."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return str((home / url).resolve())
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise SpecError(f"a remote of DVC at {scheme}:// can't be read", hint=f"`dvc pull` first; known are {known}")
    return f"{SCHEMES[scheme]}://{rest}"


def opened(url: str, told: dict[str, str]) -> Store:
    """Open a cache or remote; what DVC's settings say of a remote goes before this machine's."""
    from launcher import access, store
    from launcher.store.access import Access

    if "://" not in url:
        return store.open_to_read(url)
    found = access.of(url)
    own = {ours: told[theirs] for theirs, ours in SETTINGS.items() if theirs in told}
    merged = Access(found.url, {**found.settings, **own}, found.secrets)
    return store.open_to_read(merged, lambda: access.credentials(merged))
