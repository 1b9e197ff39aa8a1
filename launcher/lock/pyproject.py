"""Read the dependencies of a pyproject.toml: the project's, of extras (PEP 621) and of groups (PEP 735)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.errors import SpecError, Where
from launcher.lock.requirements import Collection, display, read_text
from launcher.toml import parse


def read_pyproject(path: Path, extras: Sequence[str], groups: Sequence[str], into: Collection) -> None:
    """Collect what `project.dependencies`, the extras and the groups require.

    Raises SpecError when the file isn't TOML; other mistakes are noted.
    """
    if (text := read_text(path, into)) is None:
        return
    reading = Reading(text, parse(text, display(path), SpecError), display(path), into)
    reading.project(extras)
    for group in groups:
        reading.group(group, ())
    reading.tools()


class Reading:
    """One pass over a pyproject.toml."""

    def __init__(self, text: str, raw: Mapping[str, Any], file: str, into: Collection) -> None:
        self.lines, self.file, self.into = text.splitlines(), file, into
        self.table: Mapping[str, Any] = mapping(raw.get("project"))
        self.groups: Mapping[str, Any] = {normal(k): v for k, v in mapping(raw.get("dependency-groups")).items()}
        self.uv: Mapping[str, Any] = mapping(mapping(raw.get("tool")).get("uv"))
        self.poetry = "poetry" in mapping(raw.get("tool")) and not self.table
        self.names: dict[str, Where] = {}
        self.seen_extras: set[str] = set()

    def where(self, key: str, said: str | None = None) -> Where:
        """Find the line of a string, because the TOML parser keeps no marks."""
        line = next((n for n, text in enumerate(self.lines, start=1) if said and said in text), None)
        return Where(file=self.file, line=line, key=key)

    def project(self, extras: Sequence[str]) -> None:
        if not self.table and (self.poetry or not self.groups):
            hint = "list what the code needs in [project] dependencies (PEP 621), or give a list of requirements"
            self.into.fail(Where(file=self.file), "there is no [project] table", hint)
            return
        for key, asked in (("dependencies", True), ("optional-dependencies", bool(extras))):
            if asked and key in self.table.get("dynamic", ()):
                hint = "a build would have to run to know them: write them out, or give a list of requirements"
                self.into.fail(self.where("project.dynamic", "dynamic"), f"the project's {key} are dynamic", hint)
        self.into.requires_python = self.table.get("requires-python")
        self.requirements("project.dependencies", self.table.get("dependencies", []))
        for extra in extras:
            self.extra(extra)

    def extra(self, name: str) -> None:
        known = {normal(key): value for key, value in mapping(self.table.get("optional-dependencies")).items()}
        if normal(name) not in known:
            self.into.fail(
                self.where("project.optional-dependencies"), f"there is no extra `{name}`", near(name, known)
            )
        elif normal(name) not in self.seen_extras:
            self.seen_extras.add(normal(name))
            self.requirements(f"project.optional-dependencies.{name}", known[normal(name)])

    def group(self, name: str, above: tuple[str, ...]) -> None:
        """Read a group and those that it includes."""
        key = f"dependency-groups.{name}"
        if normal(name) in above:
            self.into.fail(self.where(key, name), f"the group `{name}` includes itself")
            return
        if normal(name) not in self.groups:
            self.into.fail(self.where(key, name), f"there is no group `{name}`", near(name, self.groups))
            return
        items = self.groups[normal(name)]
        included = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        for item in included:
            if list(item) == ["include-group"]:
                self.group(str(item["include-group"]), (*above, normal(name)))
            else:
                self.into.fail(self.where(key), f"`{item}` is neither a requirement nor an include-group (PEP 735)")
        self.requirements(key, [i for i in items if i not in included] if isinstance(items, list) else items)

    def requirements(self, key: str, items: object) -> None:
        if not isinstance(items, list):
            self.into.fail(self.where(key), "must be a list of requirements")
            return
        for number, item in enumerate(items):
            place = self.where(f"{key}[{number}]", str(item))
            if isinstance(item, str):
                self.requirement(item, place)
            else:
                self.into.fail(place, "must be a string")

    def requirement(self, text: str, place: Where) -> None:
        """Take a requirement; one of the project itself stands for its extras (`name[all]`)."""
        parsed = self.into.parse(text, place)
        if parsed is None:
            return
        if normal(parsed.name) == normal(str(self.table.get("name", ""))):
            for extra in sorted(parsed.extras):
                self.extra(extra)
            return
        self.names.setdefault(normal(parsed.name), place)
        self.into.add(text, place)

    def tools(self) -> None:
        """Take uv's constraints; refuse what would silently give other packages than uv does."""
        for number, item in enumerate(self.uv.get("constraint-dependencies", [])):
            self.into.add(
                str(item), self.where(f"tool.uv.constraint-dependencies[{number}]", str(item)), constraint=True
            )
        if self.uv.get("override-dependencies"):
            place = self.where("tool.uv.override-dependencies", "override-dependencies")
            self.into.fail(place, "overrides are not followed yet", "write what you need as requirements")
        for name in mapping(self.uv.get("sources")):
            if normal(name) in self.names:
                hint = "configure that index for the machine (uv.toml, pip.conf), and require the package by version"
                message = f"`{name}` has a source of its own, which is not followed yet"
                self.into.fail(self.where(f"tool.uv.sources.{name}"), message, hint)


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def near(name: str, known: Iterable[str]) -> str | None:
    known = sorted(known)
    close = difflib.get_close_matches(normal(name), known, 1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known are {', '.join(known)}" if known else None
