"""Read pip's settings as `pip install` does: every level of configuration file, then PIP_* variables.

Order and names are pip's (pip documentation, "Configuration"): later levels replace earlier ones, key by key;
the section [install] goes before [global]; variables go before files.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.errors import FetchError

KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "no-index")
FALSE = ("", "0", "no", "off", "false", "n", "f")


def pip_settings(environ: Mapping[str, str], *, etc: Path = Path("/etc"), prefix: Path | None = None) -> dict[str, str]:
    """Return what pip would use for the settings that say where packages come from, as raw text.

    Raises FetchError when a configuration file can't be read.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in files(environ, etc, prefix or Path(sys.prefix)):
        for section, values in read(path).items():
            sections.setdefault(section, {}).update(values)
    found = {**sections["global"], **sections["install"], **variables(environ)}
    return {key: value for key, value in found.items() if key in KEYS and value.strip()}


def files(environ: Mapping[str, str], etc: Path, prefix: Path) -> Iterator[Path]:
    """Yield the configuration files that exist, the weakest first."""
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return
    home = Path(environ.get("HOME") or Path.home())
    site_wide = environ.get("XDG_CONFIG_DIRS") or str(etc / "xdg")
    places = [Path(folder) / "pip" / "pip.conf" for folder in reversed(site_wide.split(os.pathsep)) if folder]
    places += [etc / "pip.conf", home / ".pip" / "pip.conf"]
    places += [Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf", prefix / "pip.conf"]
    places += [Path(own)] if own else []
    yield from (path for path in places if path.is_file())


def read(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except PermissionError:
        return {}  # another user's file holds nothing for this one
    except (OSError, UnicodeDecodeError, configparser.Error) as e:
        # the parser's message would quote the line, and a line may hold a password
        raise FetchError(f"can't read pip's settings in {path} ({type(e).__name__})", hint="mend that file") from e
    return {section: {normal(key): value for key, value in parser.items(section)} for section in parser.sections()}


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return PIP_INDEX_URL as index-url and so on. An empty variable says nothing, as with pip."""
    return {normal(key[4:]): value for key, value in environ.items() if key.startswith("PIP_") and value}


def normal(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def words(text: str) -> tuple[str, ...]:
    """Split a list: pip separates its items by white space of any kind."""
    return tuple(text.split())


def truth(text: str) -> bool:
    return text.strip().lower() not in FALSE
