"""launcher's own config file: what a person says of stores by the beginning of their URLs.

# $XDG_CONFIG_HOME/launcher/config.toml, or ~/.config/launcher/config.toml
[store."s3://bucket"]
endpoint = "https://s3.example.org"
profile = "lab"
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher import toml
from launcher.errors import AccessError, Problem, StoreError, Where

TEXTS = ("endpoint", "region", "profile", "account", "role")
CHOICES = {"style": ("path", "virtual"), "conditional_put": ("etag", "disabled")}
KEYS = (*TEXTS, *CHOICES, "ca_bundle", "anonymous")
SECRET = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the file lies or would lie (XDG Base Directory 0.8)."""
    xdg = environ.get("XDG_CONFIG_HOME", "")
    home = Path(xdg) if xdg.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".config"
    return home / "launcher" / "config.toml"


def told(url: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the file says of a store: the section whose URL is its longest beginning, by the names of KEYS.

    Paths are absolute. Raises StoreError with every mistake in the file, whichever store it speaks of.
    """
    file = config_file(environ)
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as e:
        raise StoreError(f"{file} can't be read: {e}", hint="mend its owner, mode or encoding (UTF-8)") from e
    stores = toml.parse(text, str(file), StoreError).get("store", {})
    if problems := list(mistakes(stores, text, file)):
        raise StoreError.of(problems)
    fits = [place for place in stores if begins(url, place)]
    return values(stores[max(fits, key=len)], file) if fits else {}


def begins(url: str, place: str) -> bool:
    """Tell whether a section speaks of a store: whole names only, so that s3://data says nothing of s3://data-2."""
    place = place.rstrip("/")
    return url == place or url.startswith(place + "/")


def values(section: Mapping[str, Any], file: Path) -> dict[str, str]:
    found = {key: ("true" if value is True else value) for key, value in section.items() if value not in (False, "")}
    if "ca_bundle" in found:
        found["ca_bundle"] = str(file.parent / Path(found["ca_bundle"]).expanduser())
    return found


def mistakes(stores: object, text: str, file: Path) -> Iterator[Problem]:
    """Yield what is wrong with the sections, each with its line."""
    if not isinstance(stores, dict) or not all(isinstance(section, dict) for section in stores.values()):
        hint = '[store."s3://bucket"] begins what is said of a store'
        yield Problem(message="`store` holds no sections", where=Where(file=str(file), key="store"), hint=hint)
        return
    for place, section in stores.items():
        for key, value in section.items():
            if said := mistake(key, value):
                where = Where(file=str(file), line=line_of(text, place, key), key=f'store."{place}".{key}')
                yield Problem(message=said[0], where=where, hint=said[1])


def mistake(key: str, value: object) -> tuple[str, str] | None:
    """Return what is wrong with one setting and what to do; the value of what may be a secret isn't repeated."""
    if key not in KEYS:
        if SECRET.search(key):
            return "credentials have no place here", "keep them in a profile, and name it: profile = ..."
        return "is not known", f"known are {', '.join(KEYS)}"
    if key == "anonymous":
        return None if isinstance(value, bool) else ("is neither true nor false", "write true, without quotes")
    if not isinstance(value, str):
        return "is no text", "put it in quotes"
    if key in CHOICES and value not in CHOICES[key]:
        return f"{value!r} is not known", f"write {' or '.join(CHOICES[key])}"
    if key == "endpoint" and not re.match(r"https?://[^/@]+/?", value):
        return f"{value.rpartition('@')[2]!r} is no URL of a server", "write https://host or http://host:port"
    return None


def line_of(text: str, place: str, key: str) -> int | None:
    """Find a key's line, because the TOML parser keeps no marks."""
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("["):
            inside = place in line
        elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return None


def bundle(path: str, whose: str) -> str:
    """Return the certificates of a file. Raises AccessError."""
    try:
        return Path(path).expanduser().read_text(encoding="ascii", errors="replace")
    except OSError as e:
        hint = "mend the path, or remove it"
        raise AccessError(f"the certificates in {path} ({whose}) can't be read: {e.strerror}", hint=hint) from e
