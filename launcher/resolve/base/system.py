"""What system a base is: its name and release, and its C library, read and never run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from launcher.errors import ResolveError
from launcher.image.base.tree import BaseTree
from launcher.image.debian.installed import installed
from launcher.lock.debian_version import split

GLIBC = re.compile(rb"GNU C Library [^\n\0]{0,200}version (\d+\.\d+)")
"""What glibc prints when it is run as a program (glibc csu/version.c)."""
LIBC = "libc.so.6"
MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[^/]+\.so\.1")
MUSL_PACKAGE = re.compile(r"^P:musl\nV:(\d+\.\d+)", re.MULTILINE)
MUSL_FALLBACK = "1.2"


def os_release(tree: BaseTree) -> dict[str, str]:
    """Return the variables of os-release(5); none when there is no such file."""
    text = tree.text("etc/os-release") or tree.text("usr/lib/os-release") or ""
    return dict(assignments(text))


def assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                words = shlex.split(value)
            except ValueError:  # a quote that never ends
                words = [value]
            yield name, words[0] if words else ""


def suite_of(release: dict[str, str]) -> str:
    """Return a codename, or name and version where a distribution has none."""
    if codename := release.get("VERSION_CODENAME"):
        return codename
    return " ".join(filter(None, (release.get("ID", "linux"), release.get("VERSION_ID"))))


def libc_of(tree: BaseTree, name: str) -> str:
    """Return the C library, as "glibc 2.36" or "musl 1.2". Raises ResolveError when there is none."""
    if version := glibc(tree):
        return f"glibc {version}"
    if any(MUSL.fullmatch(path) for path in tree.entries):
        found = MUSL_PACKAGE.search(tree.text("lib/apk/db/installed") or "")
        return f"musl {found[1] if found else MUSL_FALLBACK}"
    raise ResolveError(f"{name} has no C library, glibc or musl", hint="take a base that has one: Python needs it")


def glibc(tree: BaseTree) -> str | None:
    """Return glibc's version as the library itself says it, or as dpkg does."""
    for path in sorted(path for path in tree.entries if path.endswith(f"/{LIBC}") and is_system(path)):
        entry = tree.find(path)
        if entry and entry.kind == "file" and (found := GLIBC.search(tree.read(path))):
            return found[1].decode()
    libc = [fields for fields in installed(tree) if fields.get("Package") in ("libc6", "libc6.1")]
    return split(libc[0]["Version"])[1] if libc else None


def is_system(path: str) -> bool:
    """Tell whether a library is the system's, not one that a program brought along."""
    parts = path.removeprefix("usr/").split("/")
    return parts[0] in ("lib", "lib64") and len(parts) <= 3
