"""A Debian system in the making: the packages' tree, and what the rules add to it.

A rule does by explicit steps what maintainer scripts would have done. What it makes is owned by nobody (""), so that
it ends up in one small layer on top of the packages' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import dirname, join, split

from launcher.errors import ImageError
from launcher.image.base.tree import BaseTree
from launcher.image.deb import Package
from launcher.image.debian.layout import MOST_LINKS
from launcher.image.tree import Bytes, Entry

NOBODY = ""
OF_BASE = "the base image"
"""The owner of what a base image has: no name of a package. None of it is part of the layers above."""

LARGEST_READ_BYTES = 64 << 20
"""Rules read configuration, never data; what is larger is a mistake or an attack on the builder's memory."""


@dataclass(kw_only=True)
class System:
    """`entries` and `owners` as in DebianTree; paths given to methods may be absolute.

    `packages` are those that are added; over a base image `entries` hold its files too, and rules begin from them.
    """

    entries: dict[str, Entry]
    owners: dict[str, str]
    packages: dict[str, Package]
    architecture: str
    base: BaseTree | None = None

    def is_added(self, path: str) -> bool:
        """Tell whether something at a path isn't the base image's own."""
        place = self.place(path)
        return place in self.entries and self.owners[place] != OF_BASE

    def put(self, entry: Entry, owner: str = NOBODY) -> None:
        """Add an entry, or replace what is there, with the folders above it."""
        self.folder(dirname(entry.path), owner=owner)
        self.entries[entry.path], self.owners[entry.path] = entry, owner

    def write(self, path: str, data: bytes | str, mode: int = 0o644, owner: str = NOBODY) -> None:
        """Write a regular file."""
        content = Bytes(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
        self.put(Entry(self.place(path), "file", mode, content), owner)

    def rewrite(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Write a regular file unless it is so already; one that is there keeps its mode."""
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        real = self.real(path)
        there = self.entries.get(real)
        if there is None or there.content is None or self.read(path) != raw:
            self.put(Entry(real, "file", there.mode if there else mode, Bytes(raw)))

    def link(self, path: str, target: str, owner: str = NOBODY) -> None:
        """Make a symlink, unless it is there."""
        there = self.entries.get(self.place(path))
        if there is not None and (there.kind, there.target) == ("symlink", target):
            return
        self.put(Entry(self.place(path), "symlink", 0o777, None, target), owner)

    def folder(self, path: str, mode: int = 0o755, owner: str = NOBODY) -> None:
        """Make a folder and those above it, unless it is there."""
        path = self.place(path)
        if path and path not in self.entries:
            self.folder(dirname(path), owner=owner)
            self.entries[path], self.owners[path] = Entry(path, "dir", mode), owner

    def place(self, path: str) -> str:
        """Return where `path` really lies: symlinked folders above it are followed."""
        head, name = split(path.lstrip("/"))
        if name in (".", "..") or (head and not name):
            raise ImageError(f"{path}: a rule can't put anything there", hint="a package's script or data names it")
        return join(self.real(head), name) if head else name

    def real(self, path: str) -> str:
        """Follow every symlink of `path`; what isn't there is taken for a folder."""
        at, todo, followed = "", path.lstrip("/").split("/"), 0
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            here = dirname(at) if part == ".." else join(at, part)
            entry = self.entries.get(here)
            if entry is None or entry.kind != "symlink" or followed > MOST_LINKS:
                at = here
                continue
            followed += 1
            at = "" if entry.target.startswith("/") else at
            todo = [*entry.target.split("/"), *todo]
        return at

    def find(self, path: str) -> Entry | None:
        """Return the file or folder that `path` leads to, symlinks and hard links followed, or None."""
        entry = self.entries.get(self.real(path))
        return self.entries.get(entry.target) if entry and entry.kind == "hardlink" else entry

    def exists(self, path: str) -> bool:
        """Tell whether something lies at `path` itself: a dangling symlink does."""
        return self.place(path) in self.entries

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, or None when there is no such file. Raises ImageError above 64 MiB."""
        entry = self.find(path)
        if entry is None or entry.content is None:
            return None
        if entry.content.size > LARGEST_READ_BYTES:
            raise ImageError(f"/{entry.path}: is {entry.content.size} bytes long, too much for a file of its kind")
        return b"".join(entry.content.chunks())

    def text(self, path: str) -> str | None:
        """Return a file's text, or None when there is no such file. Bytes that aren't UTF-8 survive `write`."""
        data = self.read(path)
        return None if data is None else data.decode("utf-8", "replace")

    def kept_text(self, path: str) -> str:
        """Return a file's text, "" when there is no such file. Bytes that aren't UTF-8 survive `rewrite`."""
        return (self.read(path) or b"").decode("utf-8", "surrogateescape")

    def below(self, folder: str) -> Iterator[Entry]:
        """Yield the files and links below a folder, in order of their paths."""
        head = self.real(folder) + "/"
        found = [path for path, entry in self.entries.items() if path.startswith(head) and entry.kind != "dir"]
        yield from (self.entries[path] for path in sorted(found))
