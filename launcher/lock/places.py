"""Find the line of a key in TOML text, because the parser of the standard library keeps no marks."""

from __future__ import annotations

import re

HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"([^"\\]*)")\s*=""")


def key_lines(text: str) -> dict[str, int]:
    """Map key paths such as `inputs`, `wheel[2]` and `wheel[2].sha256` to their lines, counted from 1.

    Made for the flat files that launcher writes: a hand-made nest of inline tables is found by its table only.
    """
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := HEADER.match(line):
            table = header[2]
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            found.setdefault(table, number)
        elif key := KEY.match(line):
            name = key[1] or key[2]
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """Return the line of a key, or of the nearest thing around it that has one."""
    while key:
        if key in lines:
            return lines[key]
        cut = max(key.rfind("."), key.rfind("["))
        key = key[: max(cut, 0)]
    return None
