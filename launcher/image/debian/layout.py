"""Where a package's paths lie in the whole tree: every symlinked folder on the way is resolved first.

dpkg writes through a symlink to a folder (`/lib -> usr/lib`) as the kernel does; a tree that is cut into layers must
know the real place. A symlink that any package ships counts for all of them, whatever the order of the packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from posixpath import split as split_path

from launcher.errors import ImageError
from launcher.image.deb import Package
from launcher.image.tree import Entry

MOST_LINKS = 40
"""Linux follows as many symlinks in one path (path_resolution(7))."""

MERGED_USR = {
    "all": ("bin", "sbin", "lib"),
    "amd64": ("lib64",),
    "loong64": ("lib64",),
    "ppc64el": ("lib64",),
}
"""Debian's usr-merge links; the ABI of amd64 wants its loader at /lib64 (base-files' and usrmerge's own lists)."""


def merged_usr(architecture: str) -> dict[str, str]:
    """Return the links of a merged /usr: name -> target, such as `bin -> usr/bin`."""
    names = MERGED_USR["all"] + MERGED_USR.get(architecture, ())
    return {name: f"usr/{name}" for name in names}


class Layout:
    """Real places of paths, given the symlinks of the whole tree."""

    def __init__(self, links: Mapping[str, str], *, of_base: bool = False) -> None:
        """`links` maps real places of symlinks to their targets. Those of a base image may climb above the root, and
        stay there as the kernel has it; a package's must not."""
        self.links = dict(links)
        self.of_base = of_base
        self.folders: dict[str, str] = {"": ""}

    def place(self, path: str) -> str:
        """Return the real place of `path`; its last part isn't followed."""
        head, name = split_path(path)
        folder = self.folders.get(head)
        if folder is None:
            folder = self.folders[head] = self.follow("", head, path)
        return f"{folder}/{name}" if folder else name

    def real(self, path: str) -> str:
        """Return the real place of `path`, its last part followed too."""
        return self.follow("", path, path)

    def follow_link(self, entry: Entry) -> str:
        """Return the real place of what a symlink at `entry.path` leads to."""
        folder = "" if entry.target.startswith("/") else split_path(entry.path)[0]
        return self.follow(folder, entry.target, entry.path)

    def follow(self, folder: str, target: str, path: str) -> str:
        """Walk from `folder` along `target`; `path` is what the message of an error names."""
        at, todo, followed, link = folder, target.split("/")[::-1], 0, target
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == ".." and not at and not self.of_base:
                raise ImageError(f"/{path}: lies behind a symlink that leads out of the image ({link})")
            here = split_path(at)[0] if part == ".." else f"{at}/{part}" if at else part
            if (found := self.links.get(here)) is None:
                at = here
                continue
            link, followed = found, followed + 1
            if followed > MOST_LINKS:
                raise ImageError(f"/{path}: its folders are symlinks that lead in a circle")
            at = "" if link.startswith("/") else at
            todo += link.split("/")[::-1]
        return at


def layout_of(packages: Iterable[Package], architecture: str, base: Mapping[str, Entry] | None = None) -> Layout:
    """Collect the symlinks of all packages. The first package in order wins where two disagree.

    What a base image has at a path wins over all of them; whether its /usr is merged is its own affair.
    """
    start = merged_usr(architecture)
    if base is not None:
        start = {path: entry.target for path, entry in base.items() if entry.kind == "symlink"}
    shipped: list[Entry] = [e for p in packages for e in p.members if e.kind == "symlink"]
    shipped.sort(key=lambda entry: entry.path.count("/"))  # a link's own folder is known before it
    layout = Layout(start, of_base=base is not None)
    for _ in range(MOST_LINKS):
        links = dict(start)
        for entry in shipped:
            if (place := layout.place(entry.path)) not in (base or ()):
                links.setdefault(place, entry.target)
        if links == layout.links:
            return layout
        layout = Layout(links, of_base=base is not None)
    raise ImageError("the packages' symlinks never settle: each changes where the others lie")
