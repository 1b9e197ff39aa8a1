"""Diversions (`dpkg-divert`): a package's file that makes room for another's, read from preinst scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.image.deb import Package
from launcher.image.debian.facts import facts
from launcher.image.debian.merge import Diversion
from launcher.image.debian.shell import calls


def diversions_of(packages: Sequence[Package]) -> list[Diversion]:
    """Collect the diversions that the packages set up, each path once, the first package in order first."""
    found: dict[str, Diversion] = {}
    for package in packages:
        for diversion in [*read_diversions(package), *known_diversions(package)]:
            found.setdefault(diversion.path, diversion)
    return [found[path] for path in sorted(found)]


def read_diversions(package: Package) -> Iterator[Diversion]:
    """Read `dpkg-divert --add --rename` calls (dpkg-divert(1)).

    Those with --no-rename are left alone: they guard against file moves between packages during an upgrade of the
    whole system, or the script itself moves the file.
    """
    for words in calls(package.script("preinst"), "dpkg-divert"):
        if "--rename" not in words or "--remove" in words or "--list" in words:
            continue
        path = words[-1]
        to = after(words, "--divert") or f"{path}.distrib"
        if path.startswith("/") and to.startswith("/") and after(words, "--package") in ("", package.name):
            yield Diversion(path.lstrip("/"), to.lstrip("/"), package.name)


def known_diversions(package: Package) -> Iterator[Diversion]:
    """Look up the diversions that scripts compute; one counts when the package ships the path itself."""
    for act in facts().get("diversion", []):
        if act["by"] == package.name:
            shipped = {member.path for member in package.members}
            for path in (path.lstrip("/") for path in act["paths"]):
                if path in shipped:
                    yield Diversion(path, path + act["suffix"], package.name)


def after(words: Sequence[str], option: str) -> str:
    """Return an option's value, given as the next word or after `=`."""
    for number, word in enumerate(words):
        if word == option and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(option + "="):
            return word[len(option) + 1 :]
    return ""
