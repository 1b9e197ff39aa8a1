"""The files of a base image as its layers show them together, without unpacking any of them.

Rules: OCI Image Format Specification 1.1, layer.md: whiteouts take away what lies below, later layers win. A folder
over anything else replaces it, and a folder over a folder keeps what is in it, as overlayfs shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from launcher.cache import Cache
from launcher.errors import ImageError
from launcher.image.base.rows import Row, rows_of
from launcher.image.tree import Slice

Kind = Literal["dir", "file", "symlink", "other"]
MOST_LINKS = 40
"""As many symbolic links as Linux follows on one way (path_resolution(7))."""
LARGEST_READ = 256 << 20


class BaseEntry(NamedTuple):
    """One path of a base. `mode` holds permission bits, `size` is in bytes, `target` is a symlink's text.

    The content of a file lies in layer `layer` (0 is the lowest) from `offset` of its tar on: two paths with the same
    layer and offset are hard links to one file. Devices and pipes are of kind "other".
    """

    kind: Kind
    mode: int
    target: str
    layer: int
    size: int
    offset: int = 0


class BaseTree:
    """What a base's layers show: path -> entry. Paths are relative; names that are no UTF-8 are as PEP 383 has them."""

    def __init__(self, entries: Mapping[str, BaseEntry], layers: Sequence[Path]) -> None:
        self.entries = entries
        self.layers = tuple(layers)

    def place(self, path: str) -> str:
        """Return where a path really lies: symlinked folders on the way are followed, its last name isn't.

        Raises ImageError for a loop of links.
        """
        folder, _, name = path.strip("/").rpartition("/")
        folder = self.real(folder)
        return f"{folder}/{name}" if folder else name

    def real(self, path: str) -> str:
        """Return where a path leads when all links are followed, inside the root (`..` of `/` is `/`).

        What doesn't exist is taken as it is written. Raises ImageError for a loop of links.
        """
        done: list[str] = []
        left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                done = done[:-1]
                continue
            entry = self.entries.get("/".join([*done, part]))
            if entry is None or entry.kind != "symlink":
                done.append(part)
                continue
            if (links := links + 1) > MOST_LINKS:
                raise ImageError(f"/{path}: the base has a loop of symbolic links there")
            done = [] if entry.target.startswith("/") else done
            left += [part for part in reversed(entry.target.split("/")) if part not in ("", ".")]
        return "/".join(done)

    def find(self, path: str, follow: bool = True) -> BaseEntry | None:
        """Return the entry at a path, links followed, or None."""
        return self.entries.get(self.real(path) if follow else self.place(path))

    def exists(self, path: str) -> bool:
        return self.find(path) is not None

    def content(self, path: str, follow: bool = True) -> Slice:
        """Return a regular file's bytes, unread. Raises ImageError when there is no such file."""
        entry = self.find(path, follow)
        if entry is None or entry.kind != "file":
            what = "there is none" if entry is None else "it is not a regular file"
            raise ImageError(f"/{path.strip('/')} can't be read in the base: {what}")
        return Slice(self.layers[entry.layer], entry.offset, entry.size)

    def read(self, path: str, follow: bool = True) -> bytes:
        """Return a regular file's bytes. Raises ImageError when there is no such file, or it is too big to read."""
        content = self.content(path, follow)
        if content.size > LARGEST_READ:
            raise ImageError(f"/{path.strip('/')} of the base is too big to be read: {content.size} bytes")
        return b"".join(content.chunks())

    def text(self, path: str) -> str | None:
        """Return a text file's content, or None when there is no such file."""
        entry = self.find(path)
        return self.read(path).decode("utf-8", "replace") if entry and entry.kind == "file" else None

    def below(self, folder: str) -> Iterator[str]:
        """Yield the paths below a folder, the folder's own links followed, in order."""
        prefix = f"{real}/" if (real := self.real(folder)) else ""
        yield from sorted(path for path in self.entries if path.startswith(prefix))

    def names(self, folder: str) -> list[str]:
        """Return the names that are directly in a folder, in order."""
        prefix = f"{real}/" if (real := self.real(folder)) else ""
        cut = len(prefix)
        return sorted(path[cut:] for path in self.entries if path.startswith(prefix) and "/" not in path[cut:])


def read_tree(layers: Sequence[Path], cache: Cache | None = None, diff_ids: Sequence[str] = ()) -> BaseTree:
    """Return the tree of uncompressed layers, lowest first.

    With a cache and the layers' diff_ids (64 hex digits each), what a layer holds is noted, and read once only.
    Raises ImageError when a layer is broken, or one of its names leads out of it.
    """
    merging = Merging()
    for number, path in enumerate(layers):
        diff_id = diff_ids[number] if diff_ids else None
        merging.lay(rows_of(path, cache if diff_id else None, diff_id or path.name), number)
    return BaseTree(merging.entries, layers)


class Merging:
    """Layers on their way into one tree."""

    def __init__(self) -> None:
        self.entries: dict[str, BaseEntry] = {}
        self.children: dict[str, set[str]] = {"": set()}  # of each folder, and of nothing else

    def lay(self, rows: Iterable[Row], layer: int) -> None:
        """Put a layer over what is there. Whiteouts go first: they never hide what their own layer has."""
        rows = list(rows)
        for kind, path, *_ in rows:
            if kind == "whiteout":
                self.remove(path)
            elif kind == "opaque":
                self.empty(path)
        for row in rows:
            if row[0] not in ("whiteout", "opaque"):
                self.place(row, layer)

    def place(self, row: Row, layer: int) -> None:
        kind, path, mode, size, offset, target = row
        if not path:
            return
        parent, _, name = path.rpartition("/")
        if parent not in self.children:
            self.make_folder(parent, layer)
        if kind == "hardlink":
            entry = self.linked(path, target, layer)
        else:
            entry = BaseEntry(kind, mode, target, layer, size, offset)  # type: ignore[arg-type]
        if kind == "dir":
            self.children.setdefault(path, set())
        elif path in self.children:
            self.remove(path)
        self.entries[path] = entry
        self.children[parent].add(name)

    def linked(self, path: str, target: str, layer: int) -> BaseEntry:
        """A hard link's file lies before it in its own layer: engines know no links between layers."""
        entry = self.entries.get(target)
        if entry is None or entry.kind == "dir" or entry.layer != layer:
            raise ImageError(f"/{path} is a hard link to /{target}, which its layer of the base hasn't before it")
        return entry

    def make_folder(self, path: str, layer: int) -> None:
        """What lies in a folder makes it one, whatever was there."""
        parent, _, name = path.rpartition("/")
        if parent not in self.children:
            self.make_folder(parent, layer)
        self.entries[path] = BaseEntry("dir", 0o755, "", layer, 0)
        self.children[path] = set()
        self.children[parent].add(name)

    def empty(self, folder: str) -> None:
        for name in list(self.children.get(folder, ())):
            self.remove(f"{folder}/{name}" if folder else name)

    def remove(self, path: str) -> None:
        if path in self.children:
            self.empty(path)
            if path:
                del self.children[path]
        if self.entries.pop(path, None):
            parent, _, name = path.rpartition("/")
            self.children[parent].discard(name)
