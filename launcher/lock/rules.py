"""What each value of a lock must look like. A rule returns what is wrong with a value, or None."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from launcher.digest import SHA256

Rule = Callable[[str], "str | None"]

LIBC = re.compile(r"(glibc|musl) \d+\.\d+")
PYTHON = re.compile(r"\d+\.\d+(\.\d+)?\S*")
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a table."""

    type: type = str
    rule: Rule | None = None
    optional: bool = False
    least: int = 0  # of a number


def placeless(value: str) -> str | None:
    """Refuse what says where something lies: a lock outlives every host and path."""
    if "://" in value:
        return "a lock holds no URL: artifacts are known by their sha256"
    if value.startswith(("/", "~", "\\")):
        return f"a lock holds no absolute path, and `{value}` is one"
    return None if value else "must not be empty"


def sha256(value: str) -> str | None:
    if SHA256.fullmatch(value):
        return None
    return f"`{value}` is not a sha256 (64 lower-case hex digits)"


def filename(value: str) -> str | None:
    if wrong := placeless(value):
        return wrong
    if "/" in value or "\\" in value or value in (".", "..") or not value.isprintable():
        return f"must be a plain file name, and `{value}` is not"
    return None


def pool(value: str) -> str | None:
    if wrong := placeless(value):
        return wrong
    if any(part in ("", ".", "..") for part in value.split("/")) or not value.isprintable():
        return f"must be a path below a mirror's root, and `{value}` is not"
    return None


def matching(pattern: re.Pattern[str], words: str) -> Rule:
    def rule(value: str) -> str | None:
        return None if pattern.fullmatch(value) else f"must be {words}, and `{value}` is not"

    return rule


def one_of(*allowed: str) -> Rule:
    def rule(value: str) -> str | None:
        return None if value in allowed else f"must be {' or '.join(allowed)}, and `{value}` is not"

    return rule


NAME, TEXT, DIGEST = Field(rule=placeless), Field(rule=placeless), Field(rule=sha256)
OPTIONAL_TEXT = Field(rule=placeless, optional=True)
LIST, TABLE, TABLES = Field(type=list, optional=True), Field(type=dict, optional=True), Field(type=list, optional=True)
ARTIFACT: Mapping[str, Field] = {
    "name": NAME,
    "version": TEXT,
    "filename": Field(rule=filename),
    "size": Field(type=int, least=1),
    "sha256": DIGEST,
}
DEB: Mapping[str, Field] = {
    **ARTIFACT,
    "architecture": Field(rule=matching(ARCHITECTURE, "one of Debian's words for an architecture")),
    "group": Field(rule=one_of("base", "apt")),
    "pool": Field(rule=pool),
}
DATA: Mapping[str, Field] = {
    "name": NAME,
    "kind": Field(rule=one_of("file", "tree")),
    "size": Field(type=int),
    "sha256": DIGEST,
}
LAYER: Mapping[str, Field] = {"name": NAME, "diff_id": DIGEST, "size": Field(type=int), "listing": DIGEST}
IMAGE: Mapping[str, Field] = {"assembler": Field(type=int, least=1), "id": DIGEST, "layer": TABLES}
INPUTS: Mapping[str, Field] = {
    "base": TEXT,
    "platform": TEXT,
    "python": OPTIONAL_TEXT,
    "apt": LIST,
    "pip": LIST,
    "constraints": LIST,
}
TOP: Mapping[str, Field] = {
    "version": Field(type=int, least=1),
    "suite": TEXT,
    "architecture": Field(rule=matching(ARCHITECTURE, "one of Debian's words for an architecture")),
    "python": Field(rule=matching(PYTHON, "a version such as 3.11.2"), optional=True),
    "libc": Field(rule=matching(LIBC, "such as `glibc 2.36`")),
    "inputs": Field(type=dict),
    "env": TABLE,
    "data": TABLES,
    "deb": TABLES,
    "wheel": TABLES,
    "image": TABLE,
}
