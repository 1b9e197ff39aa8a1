"""Versions as GPUs and their drivers have them: dotted numbers, compared field by field."""

from __future__ import annotations


def fields(version: str) -> tuple[int, ...]:
    """Return a dotted version's numbers: "525.60.13" gives (525, 60, 13). Raises ValueError for other text."""
    return tuple(int(part) for part in version.strip().split("."))


def at_least(version: str, floor: str) -> bool:
    """Tell whether a version is a floor or newer. All fields count: 525.60.11 is below 525.60.13.

    Missing fields are zeros. Raises ValueError for text that is no dotted version.
    """
    ours, theirs = fields(version), fields(floor)
    width = max(len(ours), len(theirs))
    return ours + (0,) * (width - len(ours)) >= theirs + (0,) * (width - len(theirs))


def is_version(text: str | None) -> bool:
    """Tell whether a text is a dotted version."""
    return text is not None and all(part.isdecimal() and part.isascii() for part in text.strip().split("."))


def minor_release(version: str) -> str:
    """Return X.Y of X.Y.Z."""
    return ".".join(version.split(".")[:2])


def matches(version: str | None, asked: str) -> bool:
    """Tell whether a version begins with what was asked for, by whole fields: 12.6.77 is a 12.6, and 12.60 isn't."""
    return version is not None and version.split(".")[: asked.count(".") + 1] == asked.split(".")


def capability_key(capability: str) -> tuple[int, int, str]:
    """Return what sorts compute capabilities such as "9.0", "9.0a" and "10.3f"."""
    major, _, minor = capability.partition(".")
    digits = minor.rstrip("af")
    return int(major), int(digits), minor[len(digits) :]
