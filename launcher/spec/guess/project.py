"""What the files beside the code say: name, Python version, requirements, data folders."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from launcher.spec.encoding import decode
from launcher.spec.guess.imports import DATA_FOLDERS, is_data

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The python3 of each Debian suite (packages.debian.org), the oldest that we would propose first.
SUITES = {"3.11": "bookworm", "3.13": "trixie"}


@dataclass(frozen=True, kw_only=True)
class Project:
    """`python` is a version that a suite has; `asked` is what the project asks for when no suite has that."""

    name: str
    python: str
    asked: str | None = None
    requirements_file: str | None = None
    required: frozenset[str] = frozenset()  # names in that file, normalised as PEP 503 says
    data: tuple[str, ...] = ()

    @property
    def suite(self) -> str:
        return SUITES[self.python]


def read(folder: Path) -> Project:
    """Read what is there; what is missing or broken is left out."""
    pyproject = toml(folder / "pyproject.toml")
    python, asked = python_version(folder, pyproject)
    file, lines = requirements(folder, pyproject)
    return Project(
        name=project_name(folder, pyproject),
        python=python,
        asked=asked,
        requirements_file=file,
        required=frozenset(canonicalize_name(name) for line in lines if (name := requirement_name(line))),
        data=tuple(name for name in DATA_FOLDERS if is_data(folder / name)),
    )


def toml(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found["project"] if isinstance(found.get("project"), dict) else {}


def project_name(folder: Path, pyproject: dict[str, Any]) -> str:
    """Return a name that a spec may have, from the project's or the folder's."""
    name = str(pyproject.get("name") or folder.resolve().name)
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:80] or "experiment"


def python_version(folder: Path, pyproject: dict[str, Any]) -> tuple[str, str | None]:
    """Return a version that a suite has, and what was asked for if that is something else."""
    pinned = text_of(folder / ".python-version").partition("\n")[0]
    if (found := re.search(r"\b(3\.[0-9]+)", pinned)) and found[1] in SUITES:
        return found[1], None
    asked = str(pyproject.get("requires-python") or "")
    fitting = versions_in(asked)
    if found:
        return (fitting or list(SUITES))[0], found[1]
    return (fitting or list(SUITES))[0], None if fitting else asked


def versions_in(asked: str) -> list[str]:
    try:
        wanted = SpecifierSet(asked)
    except InvalidSpecifier:
        return list(SUITES)
    return [version for version in SUITES if wanted.contains(f"{version}.9")]  # a release that both suites reached


def text_of(path: Path) -> str:
    """Return a file's text, or nothing when it is missing or out of reach."""
    try:
        return decode(path.read_bytes(), errors="replace")
    except OSError:
        return ""


def requirements(folder: Path, pyproject: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return the file that holds requirements, and its lines."""
    for name in ("requirements.txt", "requirements.in"):
        if (folder / name).is_file():
            return name, text_of(folder / name).splitlines()
    dependencies = pyproject.get("dependencies")
    if isinstance(dependencies, list) and dependencies:
        return "pyproject.toml", [str(line) for line in dependencies]
    return None, []


def requirement_name(line: str) -> str | None:
    text = line.split(" #")[0].split(" --")[0].rstrip("\\").strip()
    try:
        return Requirement(text).name if text and not text.startswith(("#", "-")) else None
    except InvalidRequirement:
        return None
