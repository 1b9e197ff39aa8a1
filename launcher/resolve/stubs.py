"""Distributions that an image's base has already, shown to the resolver as wheels of metadata that only it ever sees.

Their own requirements are left out: the base is used as it is, whether or not all of them are met. Those of extras
stay, because a person who asks for `name[extra]` wants what the extra brings.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import Problem, ResolveError


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A distribution in the base. `name` is normalised, `requires` are the requirements of its extras."""

    name: str
    version: str
    extras: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


def split_installed(
    installed: Sequence[Installed], lines: Iterable[str]
) -> tuple[tuple[Installed, ...], tuple[Installed, ...]]:
    """Return what stays of the base and what requirements (PEP 508) rule out: that is put over it."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    asked: dict[str, list[Requirement]] = {}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        asked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    out = tuple(
        each
        for each in installed
        if not all(r.specifier.contains(each.version, prereleases=True) for r in asked.get(each.name, ()))
    )
    return tuple(each for each in installed if each not in out), out


def constraints(installed: Iterable[Installed]) -> list[str]:
    return [f"{each.name}==={each.version}" for each in installed]


def write_stubs(installed: Iterable[Installed], folder: Path) -> Path:
    """Write the wheels into a new folder; return it."""
    folder.mkdir()
    for each in installed:
        write_stub(each, folder)
    return folder


def write_stub(each: Installed, folder: Path) -> None:
    stem = f"{each.name.replace('-', '_')}-{each.version}"
    lines = ["Metadata-Version: 2.1", f"Name: {each.name}", f"Version: {each.version}"]
    lines += [f"Provides-Extra: {extra}" for extra in each.extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in each.requires]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def without(raw: Mapping[str, Any], installed: Iterable[Installed]) -> dict[str, Any]:
    """Take what the base has out of the resolver's answer."""
    there = {(each.name, each.version) for each in installed}
    packages = [p for p in raw.get("packages", []) if (p.get("name"), normal(p.get("version"))) not in there]
    return {**raw, "packages": packages}


def normal(version: object) -> str:
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(str(version)))
    except InvalidVersion:
        return ""


def explained(error: ResolveError, installed: Iterable[Installed]) -> ResolveError:
    """Add to a refusal which of the distributions that it speaks of are the base's."""
    text = str(error)
    named = [each for each in installed if re.search(rf"(?<![\w-]){re.escape(each.name)}=", text)]
    problems = [
        Problem(
            message=f"{each.name} {each.version} is the base's: the base has it, and what it has stays as it is",
            hint=f"if it has to be another version, ask for it in image.pip (`{each.name}>=...`): it lies over it then",
        )
        for each in named
    ]
    made = ResolveError.of([*error.problems, *problems])
    assert isinstance(made, ResolveError)
    return made
