"""Read requirements files as pip does (pip documentation, "Requirements File Format"), with nested files."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.digest import SHA256
from launcher.errors import Where
from launcher.lock.requirements import NO_CODE, Collection, display, read_text

COMMENT = re.compile(r"(^|\s+)#.*$")
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
OPTION = re.compile(r"\s+(--[a-z-]+)(?:\s*=\s*|\s+)(\S+)")
SHORT = {"-r": "--requirement", "-c": "--constraint", "-i": "--index-url", "-f": "--find-links", "-e": "--editable"}
UNNEEDED = {"--require-hashes", "--prefer-binary", "--only-binary"}  # true of every lock
REFUSED = {
    "--editable": NO_CODE,
    "--pre": "name a pre-release in the requirement itself, such as `name>=2.0rc1`",
    "--no-binary": "images hold wheels only: build that one once and put it into a find-links folder",
}
PER_REQUIREMENT = "only --hash may follow a requirement: images hold finished wheels, which no option changes"


@dataclass(frozen=True, kw_only=True)
class Nesting:
    """A file that is being read, and whether its lines are constraints."""

    path: Path
    constraint: bool

    def place(self, line: int) -> Where:
        return Where(file=display(self.path), line=line)


def read_requirements_txt(
    path: Path,
    into: Collection,
    *,
    constraint: bool = False,
    above: tuple[Nesting, ...] = (),
    named: Where | None = None,
) -> None:
    """Read one file and those that it names. `named` is where it was named, for the message when it isn't there."""
    here = Nesting(path=path, constraint=constraint)
    if here in above:
        return  # files that name each other: everything is read once
    text = read_text(path, into, named)
    for number, line in logical_lines(text or ""):
        where = here.place(number)
        if line.startswith("-"):
            read_option(line, here, where, into, (*above, here))
        else:
            read_requirement(line, here, where, into)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (first line's number, line) with continuations joined, comments and empty lines left out."""
    start, parts = 1, [""]
    for number, line in enumerate(text.splitlines(), start=1):
        start = start if parts != [""] else number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            parts.append(line[:-1])
            continue
        joined = COMMENT.sub("", "".join([*parts, "" if comment else line])).strip()
        parts = [""]
        if joined:
            yield start, joined
    if rest := COMMENT.sub("", "".join(parts)).strip():
        yield start, rest


def read_requirement(line: str, here: Nesting, where: Where, into: Collection) -> None:
    text, hashes = line, set()
    for option in OPTION.finditer(line):
        text = text[: option.start()] if len(text) > option.start() else text
        if option[1] == "--hash":
            hashes.add(option[2])
        else:
            into.fail(where, f"`{option[1]}` can't be followed here", PER_REQUIREMENT)
    requirement = into.add(text.strip(), where, constraint=here.constraint)
    if requirement and hashes:
        allow(requirement.name, hashes, where, into)


def allow(name: str, hashes: set[str], where: Where, into: Collection) -> None:
    """Note the sha256 that a file allows for a package."""
    from packaging.utils import canonicalize_name

    found = {value for kind, _, value in (one.partition(":") for one in hashes) if kind == "sha256"}
    if not found or not all(SHA256.fullmatch(value) for value in found):
        into.fail(
            where, f"the hashes of `{name}` are not sha256", "write --hash=sha256:<64 hex digits>, or none at all"
        )
        return
    key = canonicalize_name(name)
    into.hashes[key] = into.hashes.get(key, frozenset()) | found


def read_option(line: str, here: Nesting, where: Where, into: Collection, above: tuple[Nesting, ...]) -> None:
    """Follow an option line. Values may hold ${VARIABLES}, as with pip: that is how logins stay out of files."""
    name, value = split_option(line)
    value = VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), value)
    if name in ("--requirement", "--constraint"):
        follow(name, value, here, where, into, above)
    elif name in REFUSED:
        into.fail(where, f"`{name}` can't be followed", REFUSED[name])
    elif not value and name in ("--index-url", "--extra-index-url", "--find-links", "--trusted-host"):
        into.fail(where, f"`{name}` needs a value")
    elif name == "--index-url":
        into.index_url = value
    elif name == "--extra-index-url":
        into.extra.append(value)
    elif name == "--find-links":
        into.find_links.append(beside(value, here.path))
    elif name == "--trusted-host":
        into.trusted.append(value)
    elif name == "--no-index":
        into.no_index = True
    elif name not in UNNEEDED:
        into.fail(where, f"`{name}` is not known here", "leave it out, or set it in pip's own configuration")


def follow(name: str, value: str, here: Nesting, where: Where, into: Collection, above: tuple[Nesting, ...]) -> None:
    """Read a nested file, which is named from the folder of the file that names it."""
    if "://" in value:
        into.fail(where, f"`{name}` names a URL: a lock is made from local files", "download it beside the spec")
        return
    path = Path(os.path.normpath(here.path.parent / value))
    constraint = here.constraint or name == "--constraint"
    read_requirements_txt(path, into, constraint=constraint, above=above, named=where)


def split_option(line: str) -> tuple[str, str]:
    """Return an option's long name and its value, however they are joined."""
    if line.startswith("--"):
        name, _, value = line.replace("=", " ", 1).partition(" ") if "=" in line.split()[0] else line.partition(" ")
    else:
        name, value = SHORT.get(line[:2], line.split()[0]), line[2:]
    return name, unquoted(value.strip())


def unquoted(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 else value


def beside(place: str, file: Path) -> str:
    """A find-links folder may be named from its file's folder or from the current one; pip tries the file's first."""
    own = file.parent / place
    return str(own) if "://" not in place and own.exists() else place
