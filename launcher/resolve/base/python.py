"""The Python of a base: where it lies, which version it is, and what it has installed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import dirname

from launcher.errors import ResolveError
from launcher.image.base.tree import BaseTree
from launcher.image.debian.installed import installed as packages
from launcher.lock.debian_version import split

NAMES = ("python3", "python")
OURS = "/opt/env/bin"
"""Never looked into: /opt/env of a base is hidden by the image's own."""
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
OLDEST = (3, 10)
RELEASE = r"3\.\d{1,2}\.\d{1,2}(?:(?:a|b|rc)\d+)?"
PROGRAM = re.compile(r"python3\.\d+")


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """`path` is absolute, with no symbolic link in it; `version` is full, as "3.11.2"."""

    path: str
    version: str

    @property
    def short(self) -> str:
        return ".".join(self.version.split(".")[:2])

    @property
    def prefix(self) -> str:
        return dirname(dirname(self.path)).lstrip("/")


def find_python(tree: BaseTree, env: Mapping[str, str], wanted: str | None, name: str) -> Interpreter | None:
    """Return the first Python on a base's PATH, of version `wanted` (X.Y) if that is given; None when it has none.

    Raises ResolveError when there are Pythons and none of them is the wanted one, or the one there is too old.
    """
    found = list(interpreters(tree, env))
    if not found:
        return None
    fitting = [each for each in found if wanted in (None, each.short)]
    has = ", ".join(dict.fromkeys(f"{each.version} ({each.path})" for each in found))
    if not fitting:
        raise ResolveError(f"python {wanted} was asked for, and {name} has {has}", hint="take another base or python")
    if tuple(map(int, fitting[0].short.split("."))) < OLDEST:
        raise ResolveError(f"{name} has Python {has}, and 3.10 is the oldest that works", hint="take a newer base")
    return fitting[0]


def interpreters(tree: BaseTree, env: Mapping[str, str]) -> Iterator[Interpreter]:
    """Yield the Pythons on a base's PATH, those that plain names mean first."""
    folders = [folder for folder in (env.get("PATH") or DEFAULT_PATH).split(":") if folder not in ("", OURS)]
    plain = [f"{folder}/{name}" for folder in folders for name in NAMES]
    named = [f"{folder}/{name}" for folder in folders for name in tree.names(folder) if PROGRAM.fullmatch(name)]
    seen = set()
    for path in [*plain, *named]:
        real = tree.real(path)
        entry = tree.entries.get(real)
        if real in seen or entry is None or entry.kind != "file" or not entry.mode & 0o111:
            continue
        seen.add(real)
        if version := version_of(tree, real):
            yield Interpreter(path=f"/{real}", version=version)


def version_of(tree: BaseTree, path: str) -> str | None:
    """Return an interpreter's full version from what lies beside it, from dpkg, or from its own text; None if it is
    no CPython 3 or can't be told."""
    prefix = dirname(dirname(path))
    short = PROGRAM.search(path.rpartition("/")[2])
    told = from_header(tree, prefix, short[0]) if short else None
    told = told or from_conda(tree, prefix)
    if not told and short and dirname(path) == "usr/bin":
        told = from_dpkg(tree, short[0])
    return told or from_text(tree, path) or (from_library(tree, prefix, short[0]) if short else None)


def from_header(tree: BaseTree, prefix: str, program: str) -> str | None:
    text = tree.text(f"{prefix}/include/{program}/patchlevel.h") or ""
    found = re.search(rf'^#define PY_VERSION\s+"({RELEASE})\+?"', text, re.MULTILINE)
    return found[1] if found else None


def from_conda(tree: BaseTree, prefix: str) -> str | None:
    """Read what conda installed (conda-meta/python-X.Y.Z-BUILD.json)."""
    for name in tree.names(f"{prefix}/conda-meta"):
        if re.fullmatch(rf"python-{RELEASE}-[^-]+\.json", name):
            try:
                return str(json.loads(tree.read(f"{prefix}/conda-meta/{name}"))["version"])
            except (ValueError, KeyError, TypeError):
                return name.split("-")[1]
    return None


def from_dpkg(tree: BaseTree, program: str) -> str | None:
    versions = {fields.get("Package"): fields.get("Version", "") for fields in packages(tree)}
    version = versions.get(f"{program}-minimal") or versions.get(program) or ""
    found = re.match(RELEASE, split(version)[1].replace("~", "")) if version else None
    return found[0] if found else None


def from_text(tree: BaseTree, path: str) -> str | None:
    """Find PY_VERSION in a binary: the one C string that is a release of Python 3."""
    found = re.search(rf"\0({RELEASE})\+?\0".encode(), tree.read(path))
    return found[1].decode() if found else None


def from_library(tree: BaseTree, prefix: str, program: str) -> str | None:
    for folder in ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"):
        path = f"{prefix}/{folder}/lib{program}.so.1.0"
        if (entry := tree.find(path)) and entry.kind == "file":
            return from_text(tree, path)
    return None
