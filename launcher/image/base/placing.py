"""Our layers over a base: paths where they really lie, folders as the base has them, nothing in the way.

/opt/env is ours: what a base has there is hidden by an opaque mark (OCI image-spec 1.1,
layer.md) in a layer of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from launcher.errors import ImageError, Problem
from launcher.image.base.tree import BaseTree
from launcher.image.keys import key_of
from launcher.image.layers import HIDDEN, LayerPlan, with_parents
from launcher.image.tree import Bytes, Entry
from launcher.image.wheel import ENV

OPAQUE = ".wh..wh..opq"


def over_base(plans: Sequence[LayerPlan], tree: BaseTree) -> list[LayerPlan]:
    """Return plans of /opt/env as they have to lie over a base.

    Raises ImageError that names every path where the base has something else than a folder.
    """
    home = tree.real(ENV)
    if not any(path.startswith(home + "/") for path in tree.entries):
        return [placed(plan, tree) for plan in plans]
    bare = BaseTree({path: e for path, e in tree.entries.items() if not path.startswith(home + "/")}, tree.layers)
    mark = Entry(f"{ENV}/{OPAQUE}", "file", 0o644, Bytes(b""))
    hiding = LayerPlan(
        rank=HIDDEN,
        name="the base's /opt/env hidden",
        key=key_of("hidden", ENV),
        size=0,
        entries=lambda: with_parents([mark], {}),
    )
    return [placed(plan, bare) for plan in (hiding, *plans)]


def placed(plan: LayerPlan, tree: BaseTree) -> LayerPlan:
    """Return a plan with every path resolved against the base."""
    before = plan.entries()
    moved = Placing(tree).entries(before)
    if signature(moved) == signature(before):
        return plan
    return replace(plan, key=key_of("placed", plan.key, signature(moved)), entries=lambda: moved)


def signature(entries: Iterable[Entry]) -> list[tuple[str, str, int, str]]:
    return [(entry.path, entry.kind, entry.mode, entry.target) for entry in entries]


class Placing:
    """One layer's entries on their way to where a base really has their folders."""

    def __init__(self, tree: BaseTree) -> None:
        self.tree = tree
        self.known: dict[str, str] = {}
        self.problems: dict[str, Problem] = {}

    def entries(self, entries: Iterable[Entry]) -> list[Entry]:
        placed = {entry.path: entry for entry in map(self.entry, entries)}
        if self.problems:
            raise ImageError.of(self.problems[path] for path in sorted(self.problems))
        above = {path[:at] for path in placed for at in range(len(path)) if path[at] == "/"}
        folders = {path: self.folder(path) for path in above}
        return with_parents(placed.values(), {path: entry for path, entry in folders.items() if entry})

    def entry(self, entry: Entry) -> Entry:
        if entry.kind == "dir":
            place = self.real(entry.path)
            self.refuse_other(place, "dir", entry.path)
            return self.folder(place) or replace(entry, path=place)
        place = self.place(entry.path)
        self.refuse_other(place, entry.kind, entry.path)
        if entry.kind == "hardlink":
            return replace(entry, path=place, target=self.place(entry.target))
        return entry if place == entry.path else replace(entry, path=place)

    def place(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        return f"{self.real(folder)}/{name}" if folder else name

    def real(self, folder: str) -> str:
        if folder not in self.known:
            self.known[folder] = self.tree.real(folder)
        return self.known[folder]

    def folder(self, path: str) -> Entry | None:
        """Return a folder of the base as an entry of ours, which changes nothing of it."""
        there = self.tree.entries.get(path)
        return Entry(path, "dir", there.mode) if there and there.kind == "dir" else None

    def refuse_other(self, place: str, kind: str, path: str) -> None:
        """A folder can't take a file's place in the base, nor a file a folder's, nor anything lie below a file."""
        there = self.tree.entries.get(place)
        if there and (there.kind == "dir") != (kind == "dir"):
            self.refuse(place, "a folder" if there.kind == "dir" else "no folder", path)
        parent = place.rpartition("/")[0]
        while parent:
            above = self.tree.entries.get(parent)
            if above and above.kind != "dir":
                self.refuse(parent, "no folder", path)
            parent = parent.rpartition("/")[0]

    def refuse(self, place: str, what: str, path: str) -> None:
        self.problems.setdefault(
            place,
            Problem(
                message=f"the base has {what} at /{place}, where the image needs /{path}",
                hint="take another base, or remove it in a Containerfile",
            ),
        )
