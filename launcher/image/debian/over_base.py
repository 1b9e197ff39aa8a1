"""Packages over a base image: what of them becomes part of the image, and what of the base stays as it is.

The base is used as it is, so its files win wherever dpkg would have asked a person. Only what dpkg would have done
without asking is done: a package whose Replaces names the owner of a file takes the file over, a diversion moves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from launcher.errors import ImageError, Problem
from launcher.image.base.tree import BaseEntry, BaseTree
from launcher.image.deb import Package
from launcher.image.debian.installed import installed, status_parts
from launcher.image.debian.layout import Layout
from launcher.image.debian.merge import MOST_PROBLEMS, Diversion, sha256
from launcher.image.debian.replaces import names_in
from launcher.image.debian.system import OF_BASE
from launcher.image.tree import Bytes, Entry, Slice

DIVERSIONS = "var/lib/dpkg/diversions"
INFO = "var/lib/dpkg/info"
TAKE_OTHER = "the base is used as it is: take another base, leave the package out, or install it in a Containerfile"


def entries_of(base: BaseTree) -> dict[str, Entry]:
    """Return a base's files as a tree's entries; what is hard linked there is a file at each of its paths."""
    return {path: entry_of(base, path, entry) for path, entry in base.entries.items()}


def entry_of(base: BaseTree, path: str, entry: BaseEntry) -> Entry:
    if entry.kind in ("dir", "symlink"):
        return Entry(path, "dir" if entry.kind == "dir" else "symlink", entry.mode, None, entry.target)
    content = Slice(base.layers[entry.layer], entry.offset, entry.size) if entry.kind == "file" else None
    return Entry(path, "file", entry.mode, content)


def base_diversions(base: BaseTree) -> list[Diversion]:
    """Read dpkg's list of diversions: from, to, by whom; `:` is the administrator (dpkg-divert(1))."""
    lines = (base.text(DIVERSIONS) or "").splitlines()
    return [
        Diversion(path.lstrip("/"), to.lstrip("/"), by)
        for path, to, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    ]


def lay_over(
    base: Mapping[str, Entry],
    entries: dict[str, Entry],
    owners: dict[str, str],
    packages: Sequence[Package],
    diversions: Iterable[Diversion],
    layout: Layout,
    tree: BaseTree,
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return base and packages as one tree; what stays the base's is owned by OF_BASE.

    Raises ImageError with every path of a package that the base has with another content, and for which nothing tells
    which of the two counts.
    """
    moved = dict(make_room(base, entries, owners, diversions, layout))
    files = Files(packages, layout, tree)
    problems: list[Problem] = []
    kept: set[str] = set()
    for path, entry in entries.items():
        there = base.get(path)
        if there is None or path in moved:
            problems += blocked(path, entry, base, owners[path])
        elif stays(there, entry, files, owners[path], layout):
            kept.add(path)
        elif not files.taken_over(path, owners[path]) or "dir" in (there.kind, entry.kind):
            problems.append(files.conflict(path, there, entry, owners[path]))
    if problems:
        raise ImageError.of(problems[:MOST_PROBLEMS])
    added = mended({path: entry for path, entry in entries.items() if path not in kept}, entries)
    made = {to: (entry, by) for to, entry, by in moved.values()}
    together = {**base, **{to: entry for to, (entry, _) in made.items()}, **added}
    theirs = {to: by for to, (_, by) in made.items()}
    return together, {**dict.fromkeys(base, OF_BASE), **theirs, **{path: owners[path] for path in added}}


def make_room(
    base: Mapping[str, Entry],
    entries: Mapping[str, Entry],
    owners: Mapping[str, str],
    diversions: Iterable[Diversion],
    layout: Layout,
) -> Iterator[tuple[str, tuple[str, Entry, str]]]:
    """Yield (path, (new path, the base's file there, who asked for it)) of what a package's diversion moves.

    The moved file is a copy: layers can't rename. Where the package ships nothing at the path, nothing is moved.
    """
    for diversion in diversions:
        path, to = layout.place(diversion.path), layout.place(diversion.to)
        there = base.get(path)
        if there and there.kind != "dir" and to not in base and owners.get(path) == diversion.by:
            data = b"".join(there.content.chunks()) if there.content else b""
            content = Bytes(data) if there.content else None
            yield path, (to, replace(there, path=to, content=content), diversion.by)


def blocked(path: str, entry: Entry, base: Mapping[str, Entry], owner: str) -> list[Problem]:
    """Find what in the base isn't a folder and would have to be one. Links are resolved: a link here leads nowhere."""
    above = [path[:at] for at in range(len(path)) if path[at] == "/"]
    return [
        Problem(message=f"/{path}: {owner} ships it, but /{one} of the base is no folder", hint=TAKE_OTHER)
        for one in above
        if one in base and base[one].kind != "dir"
    ]


def stays(there: Entry, entry: Entry, files: Files, owner: str, layout: Layout) -> bool:
    """Tell whether the base's entry is as good as the package's, or is kept in spite of it."""
    if there.kind == "dir":
        leads_here = entry.kind == "symlink" and layout.follow_link(entry) == entry.path
        return entry.kind == "dir" or leads_here
    if entry.kind == "dir":
        return False
    return entry.path in files.conffiles.get(owner, ()) or files.same(there, entry, owner)


class Files:
    """What packages and the base say about single files; the base's lists are read when there is a conflict."""

    def __init__(self, packages: Sequence[Package], layout: Layout, tree: BaseTree) -> None:
        self.packages = {package.name: package for package in packages}
        self.layout, self.tree = layout, tree
        self.conffiles = {package.name: conffiles(package, layout) for package in packages}
        self.lists: dict[str, set[str]] | None = None

    def same(self, there: Entry, entry: Entry, owner: str) -> bool:
        """Tell whether two entries are one file, a hard link being the file that it stands for."""
        one = behind(entry, self.packages[owner], self.layout) if entry.kind == "hardlink" else entry
        if there.kind != one.kind or there.target != (one.target if one.kind == "symlink" else ""):
            return False
        if there.content is None or one.content is None or there.content.size != one.content.size:
            return there.content is one.content
        return sha256(there.content) == sha256(one.content)

    def owners(self, path: str) -> list[str]:
        """Return the base's packages that list a path."""
        if self.lists is None:
            self.lists = {}
            for name, line in base_lists(self.tree):
                self.lists.setdefault(self.layout.place(line.strip("/")), set()).add(name)
        return sorted(self.lists.get(path, ()))

    def taken_over(self, path: str, owner: str) -> bool:
        """Tell whether the Replaces of the package covers every owner that the path has in the base."""
        found = self.owners(path)
        field = self.packages[owner].fields.get("Replaces", "")
        versions = {fields["Package"]: fields["Version"] for fields in installed(self.tree)} if found and field else {}
        return bool(versions) and all(names_in(field, name, versions.get(name, "")) for name in found)

    def conflict(self, path: str, there: Entry, entry: Entry, owner: str) -> Problem:
        package = self.packages[owner]
        who = " and ".join(self.owners(path)) or "no package"
        what = "with another content" if there.kind == entry.kind == "file" else f"as a {there.kind}"
        version = package.deb.version
        message = f"/{path}: {owner} {version} ships it as a {entry.kind}, and the base has it {what} (of {who})"
        return Problem(message=message, hint=TAKE_OTHER)


def conffiles(package: Package, layout: Layout) -> set[str]:
    """Return the real paths of a package's configuration files (deb-conffiles(5))."""
    lines = package.control.get("conffiles", b"").decode("utf-8", "replace").splitlines()
    return {layout.place(line.strip().lstrip("/")) for line in lines if line.startswith("/")}


def behind(entry: Entry, package: Package, layout: Layout) -> Entry:
    """Return the file that a hard link of a package stands for."""
    shipped = {layout.place(member.path): member for member in package.members if member.kind != "dir"}
    member = shipped.get(entry.target)
    for _ in shipped:
        if member is None or member.kind != "hardlink":
            break
        member = shipped.get(layout.place(member.target))
    return replace(member, path=entry.path) if member else entry


def mended(added: dict[str, Entry], entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Make a file of each hard link whose target stays the base's: layers link within themselves only."""
    lost = {
        path: replace(entries[entry.target], path=path)
        for path, entry in added.items()
        if entry.kind == "hardlink" and entry.target not in added
    }
    return {**added, **lost}


def base_lists(tree: BaseTree) -> Iterator[tuple[str, str]]:
    """Yield (package, path) of the base's lists of files; distroless images have lists of checksums instead."""
    for name in tree.names(INFO):
        if name.endswith(".list"):
            package = name.removesuffix(".list").partition(":")[0]
            yield from ((package, line) for line in (tree.text(f"{INFO}/{name}") or "").splitlines())
    for path, _ in status_parts(tree):
        package = path.rpartition("/")[2]
        lines = (tree.text(f"{path}.md5sums") or "").splitlines()
        yield from ((package, line.partition("  ")[2]) for line in lines)
