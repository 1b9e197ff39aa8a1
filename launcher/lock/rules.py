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


def base(value: str) -> str | None:
    """Allow the name of an image in a registry: it is what was asked for, and blobs are known by their digests."""
    return None if value.startswith("docker://") else placeless(value)


def inside(value: str) -> str | None:
    """Want an absolute path inside the image."""
    plain = value.startswith("/") and value.isprintable() and ".." not in value.split("/")
    return None if plain else f"must be an absolute path inside the image, and `{value}` is not"


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
OPTIONAL_DIGEST = Field(rule=sha256, optional=True)
ARTIFACT: Mapping[str, Field] = {
    "name": NAME,
    "version": TEXT,
    "filename": Field(rule=filename),
    "size": Field(type=int, least=1),
    "sha256": DIGEST,
}
WHEEL: Mapping[str, Field] = {**ARTIFACT, "sdist": OPTIONAL_DIGEST, "builder": OPTIONAL_DIGEST}
BLOB: Mapping[str, Field] = {**ARTIFACT, "media_type": TEXT, "diff_id": DIGEST, "unpacked": Field(type=int)}
BASE: Mapping[str, Field] = {
    "kind": Field(rule=one_of("registry", "containerfile")),
    "manifest": DIGEST,
    "system": TEXT,
    "config": Field(type=dict),
    "layer": TABLES,
}
DRIVER = Field(rule=matching(re.compile(r"\d+(\.\d+){1,2}"), "a driver's version such as 525.60.13"), optional=True)
GPU: Mapping[str, Field] = {
    "cuda": Field(rule=matching(re.compile(r"\d+(\.\d+)?"), "CUDA's version such as 12.6")),
    "cudart": OPTIONAL_TEXT,
    "cudnn": OPTIONAL_TEXT,
    "nccl": OPTIONAL_TEXT,
    "driver": DRIVER,
    "driver_exact": DRIVER,
    "code": TABLES,
}
CODE: Mapping[str, Field] = {
    "name": NAME,
    "version": TEXT,
    "cubins": LIST,
    "ptx": LIST,
    "source": Field(rule=one_of("elf", "metadata", "table")),
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
    "base": Field(rule=base, optional=True),
    "containerfile": OPTIONAL_DIGEST,
    "platform": TEXT,
    "python": OPTIONAL_TEXT,
    "apt": LIST,
    "pip": LIST,
    "constraints": LIST,
    "build": LIST,
    "build_apt": LIST,
    "build_base": Field(rule=base, optional=True),
}
TOP: Mapping[str, Field] = {
    "version": Field(type=int, least=1),
    "suite": TEXT,
    "architecture": Field(rule=matching(ARCHITECTURE, "one of Debian's words for an architecture")),
    "python": Field(rule=matching(PYTHON, "a version such as 3.11.2"), optional=True),
    "interpreter": Field(rule=inside, optional=True),
    "base": TABLE,
    "gpu": TABLE,
    "libc": Field(rule=matching(LIBC, "such as `glibc 2.36`")),
    "inputs": Field(type=dict),
    "env": TABLE,
    "data": TABLES,
    "deb": TABLES,
    "wheel": TABLES,
    "image": TABLE,
}
