"""The control part of a .deb: its stanza, checked against the lock, and the files beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from launcher.errors import ImageError, Problem
from launcher.lock.model import Deb

FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")


def parse_stanza(text: str, label: str) -> dict[str, str]:
    """Parse one deb822 paragraph, keeping the order and the continuation lines as they are (deb822(5)).

    Raises ImageError when a line fits nowhere or a field comes twice.
    """
    fields: dict[str, list[str]] = {}
    last = ""
    for number, line in enumerate(text.strip("\n").split("\n"), 1):
        if line[:1] in (" ", "\t") and last:
            fields[last].append(line)
            continue
        found = FIELD.fullmatch(line)
        if not found or found[1] in fields:
            raise ImageError(f"{label}: control: line {number} {'repeats a field' if found else 'is no field'}: {line}")
        last = found[1]
        fields[last] = [found[2]]
    return {name: "\n".join(lines) for name, lines in fields.items()}


def check_stanza(fields: Mapping[str, str], deb: Deb) -> None:
    """Hold a package's own words against the lock's. Raises ImageError with every difference."""
    pinned = {"Package": deb.name, "Version": deb.version, "Architecture": deb.architecture}
    problems = [
        Problem(
            message=f"{deb.filename}: control: {key} is {fields.get(key, 'missing')}, but the lock says {value}",
            hint="the lock was changed by hand, or its package index lies; lock again",
        )
        for key, value in pinned.items()
        if fields.get(key) != value
    ]
    if problems:
        raise ImageError.of(problems)


def installed_bytes(fields: Mapping[str, str]) -> int | None:
    """Return Installed-Size in bytes, or None when the package doesn't say (policy 5.6.20: it is in KiB)."""
    text = fields.get("Installed-Size", "")
    return int(text) * 1024 if text.isdigit() else None
