"""Parse TOML, with the place of a mistake in our own words."""

from __future__ import annotations

import re
import sys
from typing import Any

from launcher.errors import LauncherError, Where

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def parse(text: str, file: str, error: type[LauncherError], *, hint: str | None = None) -> dict[str, Any]:
    """Parse a TOML 1.0 document; `file` is its name in messages. Raises `error` with the line and column."""
    try:
        parsed: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        message = PLACE.sub("", str(e)).split("\n")[0]
        line, column = place(str(e), text)
        where = Where(file=file, line=line, column=column)
        raise error(f"this is not TOML: {message}", where=where, hint=hint) from e
    return parsed


def place(message: str, text: str) -> tuple[int, int | None]:
    """Take line and column out of the parser's message; for a file that ends too early it is the last line."""
    if (found := PLACE.search(message)) and found[1]:
        return int(found[1]), int(found[2])
    return max(1, len(text.splitlines())), None
