"""What a Containerfile's image is made from, as far as it lies on this disk: a digest that tells whether it changed.

The digest covers the Containerfile, its ignore file, and the files of the context (the Containerfile's folder) that
COPY and ADD name, by path, content and executable bit. Where a source holds a variable or a RUN mounts the context,
all of the context counts. What the Containerfile downloads is not covered: nobody pins that.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from launcher.digest import sha256_bytes, sha256_file, tree_digest
from launcher.errors import SpecError
from launcher.lock.ignored import Ignored, ignored

CONTINUED = re.compile(r"\\[ \t]*\n")
HEREDOC = re.compile(r"<<-?\s*[\"']?(\w+)[\"']?")
FLAG = re.compile(r"--\w[\w-]*(?:=\S*)?\s+")
CONTEXT_MOUNT = re.compile(r"--mount=\S*type=bind(?!\S*from=)")
REMOTE = re.compile(r"https?://|git@|ssh://|git://")
READABLE = "image.containerfile names a file that this user can read"


def containerfile_digest(file: Path) -> str:
    """Return the digest of a Containerfile and of what it copies, 64 hex digits.

    Raises SpecError when the Containerfile or a file that it copies can't be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
        rules = ignored(file.parent)
        files = sorted(set(copied(text, file.parent, rules)))
        entries = [entry(file.parent, path) for path in files]
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        name = getattr(e, "filename", None) or file
        raise SpecError(f"{name} can't be read: {reason}", hint=READABLE) from e
    return tree_digest([("", "containerfile", sha256_bytes(text.encode())), ("", "ignored", rules.digest), *entries])


def entry(context: Path, path: str) -> tuple[str, str, str]:
    place = context / path
    if place.is_symlink():
        return path, "link", os.readlink(place)  # noqa: PTH115 - its text, as it stands
    return path, "executable" if os.access(place, os.X_OK) else "file", sha256_file(place)[0]


def copied(text: str, context: Path, rules: Ignored) -> Iterator[str]:
    """Yield the files of the context, by relative path, that a Containerfile's instructions name."""
    for source in sources(text):
        if "$" in source or source.strip("./") == "":
            yield from below(context, "", rules)
            return
        for place in context.glob(source.lstrip("/")):
            yield from below(context, place.relative_to(context).as_posix(), rules)


def below(context: Path, start: str, rules: Ignored) -> Iterator[str]:
    """Yield the files at or below a path that the ignore file lets into the context."""
    top = context / start
    if not top.is_dir() or top.is_symlink():
        yield from [start] if not rules.match(start) else []
        return
    for folder, names, files in os.walk(top):
        here = Path(folder).relative_to(context)
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        yield from (path for name in [*files, *links] if not rules.match(path := (here / name).as_posix()))


def sources(text: str) -> Iterator[str]:
    """Yield what COPY and ADD take from the context, and "." for a RUN that mounts it."""
    for line in instructions(text):
        word, _, rest = line.partition(" ")
        if word.upper() == "RUN" and CONTEXT_MOUNT.search(rest):
            yield "."
        if word.upper() in ("COPY", "ADD"):
            yield from named(rest.strip())


def named(rest: str) -> Iterable[str]:
    """Return the sources of one COPY or ADD; none when they come from another stage."""
    while flag := FLAG.match(rest):
        if flag[0].startswith("--from"):
            return []
        rest = rest[flag.end() :]
    try:
        words = json.loads(rest) if rest.startswith("[") else rest.split()
    except ValueError:
        words = rest.split()
    return [str(word) for word in words[:-1] if not REMOTE.match(str(word)) and not HEREDOC.match(str(word))]


def instructions(text: str) -> Iterator[str]:
    """Yield the instructions of a Containerfile, each on one line, without comments and here-documents."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = iter(CONTINUED.sub(" ", kept + "\n").splitlines())
    for line in lines:
        yield line.strip()
        for end in HEREDOC.findall(line) if line.split(" ")[0].upper() in ("RUN", "COPY", "ADD") else ():
            for inner in lines:
                if inner.strip() == end:
                    break
