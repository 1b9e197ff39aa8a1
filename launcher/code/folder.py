"""The files of a folder that no git knows: everything but what .gitignore files and good sense leave out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

SKIPPED = frozenset({".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", "node_modules"})
MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")  # a virtual environment; a cache (bford.info/cachedir)

Rules = list[tuple[str, GitIgnoreSpec]]


def listing(root: Path) -> list[str]:
    """Return the paths of all files and links that count, relative to `root`."""
    return list(walk(root, "", []))


def walk(root: Path, prefix: str, rules: Rules) -> Iterator[str]:
    """Yield what is below one folder; the rules of its own .gitignore join those from above."""
    here = root / prefix
    rules = [*rules, *own_rules(here, prefix)]
    for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if not skipped(entry) and not ignored(path + "/", rules):
                yield from walk(root, path + "/", rules)
        elif not ignored(path, rules):
            yield path


def skipped(entry: os.DirEntry[str]) -> bool:
    return entry.name in SKIPPED or any(Path(entry.path, mark).exists() for mark in MARKS)


def own_rules(folder: Path, prefix: str) -> Rules:
    """Read a folder's .gitignore, if it has one."""
    try:
        text = (folder / ".gitignore").read_text(errors="surrogateescape")
    except OSError:
        return []
    return [(prefix, GitIgnoreSpec.from_lines(text.splitlines()))]


def ignored(path: str, rules: Rules) -> bool:
    """Tell whether a path is ignored: the deepest .gitignore that says anything of it decides (gitignore(5))."""
    for prefix, spec in reversed(rules):
        verdict = spec.check_file(path[len(prefix) :]).include
        if verdict is not None:
            return verdict
    return False
