"""A careful reader of simple shell: finds calls of one program whose words are all literal.

Maintainer scripts are never run. Where a call's words depend on a variable, a function's arguments or a substitution,
the call is passed over; images/debian-rules.toml says by hand what such scripts do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

CONTINUATION = re.compile(r"\\\n")
SEPARATOR = re.compile(r";;|;|&&|\|\||\||&|\bthen\b|\bdo\b|\belse\b|\{")
NOT_LITERAL = re.compile(r"[$`*?<>(){}\[\]~]")
HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?(\w+)")


def calls(script: str, program: str) -> Iterator[list[str]]:
    """Yield the words after `program` of each simple command that runs it. Comments and here documents are skipped."""
    if program not in script:
        return
    for line in commands(script):
        for command in SEPARATOR.split(line) if program in line else ():
            words = literal_words(command)
            if words and words[0].rsplit("/", 1)[-1] == program:
                yield words[1:]


def commands(script: str) -> Iterator[str]:
    """Yield logical lines: continuations joined, comment lines and here documents left out."""
    end = ""
    for raw in CONTINUATION.sub(" ", drop_comment_lines(script)).split("\n"):
        line = raw.strip()
        if end:
            end = "" if line == end else end
            continue
        if found := HERE_DOCUMENT.search(line):
            end = found[1]
        yield line


def drop_comment_lines(script: str) -> str:
    """A comment ends its line, and a backslash at its end continues nothing."""
    return "\n".join("" if line.lstrip().startswith("#") else line for line in script.split("\n"))


def literal_words(command: str) -> list[str]:
    """Split a simple command into words; [] when a word isn't literal."""
    words = []
    for word in re.findall(r"(?:[^\s\"']|\"[^\"]*\"|'[^']*')+", command):
        if word.startswith("#"):
            break
        plain = re.sub(r"'([^']*)'|\"([^\"]*)\"", lambda m: m[1] or m[2] or "", word)
        if NOT_LITERAL.search(word) or "\\" in word:
            return []
        words.append(plain)
    return words
