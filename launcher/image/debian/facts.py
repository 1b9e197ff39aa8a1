"""The facts about Debian's maintainer scripts that ship as data in images/debian-rules.toml."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from launcher import toml
from launcher.data import data_path
from launcher.errors import ImageError
from launcher.image.debian.system import System


@cache
def facts() -> dict[str, list[dict[str, Any]]]:
    """Return the whole table: kind of act -> acts."""
    path = data_path("images", "debian-rules.toml")
    return toml.parse(path.read_text(encoding="utf-8"), "images/debian-rules.toml", ImageError)


def acts(kind: str, system: System) -> Iterator[dict[str, Any]]:
    """Yield the acts of a kind that count in this system: those of everybody and those of packages in it.

    Over a base image those of packages that are added: its other files are as they are.
    """
    for act in facts().get(kind, []):
        package = system.packages.get(act.get("by", ""))
        if ("by" not in act and system.base is None) or (
            package and act.get("mentions", "") in package.script("postinst")
        ):
            yield act
