"""Which files an ignore file keeps out of a build's context (Docker's reference, ".dockerignore file").

Podman reads `.containerignore` first, Docker only `.dockerignore`; where both are there, the first counts here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from launcher.digest import sha256_bytes

NAMES = (".containerignore", ".dockerignore")


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """Patterns in their order: (whether it takes a path back in, what it matches). `digest` is of the file."""

    patterns: tuple[tuple[bool, re.Pattern[str]], ...] = ()
    digest: str = ""

    def match(self, path: str) -> bool:
        """Tell whether a file, by its path below the context, is kept out: the last pattern that matches decides."""
        out = False
        for back, pattern in self.patterns:
            if pattern.match(path):
                out = not back
        return out


def ignored(context: Path) -> Ignored:
    """Read a context's ignore file. Raises OSError, UnicodeDecodeError."""
    for name in NAMES:
        if (context / name).is_file():
            text = (context / name).read_text(encoding="utf-8")
            return Ignored(patterns=tuple(map(compiled, meaningful(text))), digest=sha256_bytes(text.encode()))
    return Ignored()


def meaningful(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#") and line.strip("!/. ")]


def compiled(line: str) -> tuple[bool, re.Pattern[str]]:
    """Turn a line into a pattern: as Go's filepath.Match, and `**` for any number of folders."""
    back = line.startswith("!")
    text = line.removeprefix("!").strip().removeprefix("./").strip("/")
    out = ""
    while text:
        if text.startswith("**/"):
            out, text = out + "(?:[^/]+/)*", text[3:]
        elif text.startswith("**"):
            out, text = out + ".*", text[2:]
        else:
            out, text = out + one(text[0]), text[1:]
    return back, re.compile(f"{out}(?:/.*)?$", re.DOTALL)


def one(character: str) -> str:
    return {"*": "[^/]*", "?": "[^/]", "[": "[", "]": "]", "-": "-"}.get(character, re.escape(character))
