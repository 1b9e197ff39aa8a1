"""What is delivered to a site: files and trees, each with its place below the shared folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_IMODE

from launcher.digest import sha256_bytes

FILE_MODE = 0o644
WORTH_BYTES = 1 << 20  # less is sent again
BLOCK = 512  # of a tar archive, in bytes


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link in a tree."""

    target: str


Tree = Mapping[str, "Path | bytes | Link"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """A file that the site may have: `path` as an item's, `source` the same bytes here."""

    path: str
    source: Path


@dataclass(frozen=True, kw_only=True)
class Step:
    """`size` bytes of an item: from its base (`copied`) or from itself, at an offset there."""

    copied: bool
    at: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that lies at `path`, relative to the shared folder, once it is delivered: whole, by a rename.

    `source` is a file, bytes, or for a `tree` a folder or a mapping of names to these. What is there is taken for
    right, since its name says what it is, but for one that `replace`s: credentials. An item is not wanted where all of
    `unless` (relative paths) are there. One with a mode that keeps others out lies in a folder that does, too.

    Where one of its `bases` is there, only what differs has to travel: then `base` is that one's path, and `steps` make
    the item from it.
    """

    path: str
    source: Path | bytes | Tree = field(repr=False)
    mode: int = FILE_MODE
    tree: bool = False
    replace: bool = False
    unless: tuple[str, ...] = ()
    bases: tuple[Base, ...] = ()
    base: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def part(self) -> str:
        """Name of what has come of it so far, below `tmp`; "" where it is sent at once or not at all. The size is in
        it: what has another one is another file."""
        if self.tree or self.replace or self.mode != FILE_MODE or self.size < WORTH_BYTES:
            return ""
        return f"{sha256_bytes(f'{self.path}:{self.size}'.encode())[:32]}.part"

    @property
    def size(self) -> int:
        """How many bytes it holds, for the bar."""
        if self.tree:
            return sum(len(x) if isinstance(x, bytes) else x.stat().st_size for _, x, _ in self.files())
        return len(self.source) if isinstance(self.source, bytes) else Path(str(self.source)).stat().st_size

    def travels(self, start: int = 0) -> int:
        """Return how many of its bytes have to be sent where the first `start` of it have come before."""
        return sum(step.size for step in self.rest(start) if not step.copied) if self.base else self.size - start

    def rest(self, start: int) -> Iterator[Step]:
        """Yield the steps that make what comes behind its first `start` bytes."""
        for step in self.steps:
            done = min(start, step.size)
            start -= done
            if done < step.size:
                yield replace(step, at=step.at + done, size=step.size - done)

    def entries(self) -> Iterator[tuple[str, Path | bytes | Link, int]]:
        """Yield (path, content, mode) of what a tree holds, in order; empty folders are left out."""
        if isinstance(self.source, Path):
            for path in sorted(self.source.rglob("*")):
                name = path.relative_to(self.source).as_posix()
                if path.is_symlink():
                    yield name, Link(target=str(path.readlink())), 0o777
                elif path.is_file():
                    yield name, path, S_IMODE(path.stat().st_mode) | 0o444
        elif not isinstance(self.source, bytes):
            for name, content in sorted(self.source.items()):
                yield name, content, mode_of(content)

    def files(self) -> Iterator[tuple[str, Path | bytes, int]]:
        for name, content, mode in self.entries():
            if not isinstance(content, Link):
                yield name, content, mode


def mode_of(content: Path | bytes | Link) -> int:
    return S_IMODE(content.stat().st_mode) | 0o444 if isinstance(content, Path) else FILE_MODE
