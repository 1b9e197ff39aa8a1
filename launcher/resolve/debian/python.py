"""The suite's Python: Debian has one version of it, and the spec may have asked for another."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

from launcher.data import data_path
from launcher.errors import ResolveError
from launcher.lock.debian_version import split
from launcher.resolve.debian.universe import Candidate, Universe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def check_python(world: Universe, wanted: str | None, suite: str) -> None:
    """Refuse a suite whose python3 isn't the wanted X.Y. Raises ResolveError with the suites that have it."""
    offered = world.versions("python3")
    if not offered:
        raise ResolveError(f"{suite} has no python3", hint="choose a suite that has")
    version = ".".join(split(offered[0].version)[1].split(".")[:2])
    if wanted is None or wanted == version:
        return
    others = [name for name, facts in known_suites().items() if facts.get("python") == wanted]
    if others:
        bases = " or ".join(f"debian:{name}" for name in others)
        hint = f'write base: {bases} for python {wanted}, or python: "{version}"'
    else:
        has = ", ".join(f"{name} {facts['python']}" for name, facts in known_suites().items())
        hint = f'write python: "{version}"; Debian\'s suites have one Python each ({has})'
    raise ResolveError(f"python {wanted} was asked for, but {suite} has python {version}", hint=hint)


def known_suites() -> Mapping[str, Mapping[str, str]]:
    """Return facts about well-known suites, by codename, from `images/debian.toml`."""
    with data_path("images", "debian.toml").open("rb") as stream:
        suites: dict[str, dict[str, str]] = tomllib.load(stream)["suites"]
    return suites


def python_version(chosen: Iterable[Candidate]) -> str:
    """Return the full version of the interpreter, such as "3.11.2": `python3` itself may lag behind it."""
    versions = {c.name: c.version for c in chosen}
    minor = ".".join(split(versions["python3"])[1].split(".")[:2])
    version = versions.get(f"python{minor}-minimal") or versions.get(f"python{minor}") or versions["python3"]
    upstream = split(version)[1].replace("~", "")
    found = re.match(r"\d+\.\d+(\.\d+)?((a|b|rc)\d+)?", upstream)
    return found[0] if found else upstream
