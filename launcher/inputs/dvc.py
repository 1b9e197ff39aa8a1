"""A `.dvc` file as a pin: the bytes come from beside it, DVC's cache or its default remote."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError, ObjectMissingError, Problem, SpecError
from launcher.inputs import local
from launcher.inputs.gather import Inbox, from_store, hashed, unix_md5
from launcher.inputs.items import Item, checked
from launcher.progress import SILENT, Progress

if TYPE_CHECKING:
    from launcher.store.objects import Store

MD5 = re.compile(r"[0-9a-f]{32}")
ASKED_AT_ONCE = 16
LEGACY = "dos2unix:"  # how hashes from before DVC 3 are marked: those of texts are of their Unix form
LAYOUTS = ("files/md5/{}/{}", "{}/{}")  # of DVC 3, and before


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What a `.dvc` file says: where the bytes lie beside it, and their md5; of a tree that of DVC's list of it."""

    file: Path
    path: Path
    md5: str
    tree: bool
    legacy: bool
    size: int = 0

    def tagged(self, md5: str) -> str:
        return LEGACY + md5 if self.legacy else md5


def read(file: Path) -> Pin:
    """Read a `.dvc` file. Raises SpecError when it is none, or pins no single file or folder by md5."""
    import yaml

    try:
        told = yaml.safe_load(file.read_bytes())
        [out] = told["outs"]
        md5, tree = str(out["md5"]).removesuffix(".dir"), str(out["md5"]).endswith(".dir")
        path = file.parent / told.get("wdir", ".") / str(out["path"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as e:
        hint = "what `dvc add` writes is read: one entry under `outs:` with `path:` and `md5:`"
        raise SpecError(f"{file} can't be read as a pin: {type(e).__name__} {e}", hint=hint) from e
    if not MD5.fullmatch(md5):
        raise SpecError(f"{file}: {md5!r} is no md5")
    size = out.get("size")
    return Pin(
        file=file, path=path, md5=md5, tree=tree, legacy="hash" not in out, size=size if isinstance(size, int) else 0
    )


def read_beside(pin: Pin, name: str, cache: Cache, progress: Progress = SILENT) -> list[Item]:
    """Return the files beside a `.dvc` file. Raises IntegrityError when they aren't those that it pins."""
    items = local.read(pin.path, name, cache, progress, md5=True)
    if not any(md5_of(pin, items, text) == pin.md5 for text in ((False, True) if pin.legacy else (False,))):
        raise IntegrityError(
            f"data `{name}`: {pin.path} is not what {pin.file.name} pins (md5 {pin.md5})",
            hint=f"`dvc checkout {pin.file}` brings that back; `dvc add {pin.path}` pins it as it is now",
        )
    return items


def md5_of(pin: Pin, items: Sequence[Item], text: bool) -> str:
    """Return the md5 that DVC knows an input by; with `text`, as before version 3."""

    def one(item: Item) -> str:
        place = pin.path / item.name if item.name else pin.path
        if text and is_text(place):
            return unix_md5(place)
        return item.md5 or str(hashed(place, with_md5=True)[1])  # a link counts as the file that it leads to

    if not pin.tree:
        return one(items[0])
    rows = [{"md5": one(item), "relpath": item.name} for item in items]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" not in file.read(512)


class Dvc:
    """A Source: what a `.dvc` file pins, from the caches of DVC that this machine can reach."""

    def __init__(self, data: str, pin: Pin, places: Sequence[Callable[[], Store]]) -> None:
        self.data, self.pin, self.places = data, pin, places
        self.name = str(pin.file)
        self.identity = f"dvc:{pin.md5}"
        self.kind: Literal["file", "tree"] = "tree" if pin.tree else "file"
        self.stores: list[Store] = []
        self.sizes: dict[str, tuple[Store, str, int]] = {}  # md5 -> where it is

    def items(self) -> list[Item]:
        """Return the files. Raises FetchError when the list of a tree is nowhere, IntegrityError, StoreError."""
        if not self.pin.tree:
            md5 = self.pin.md5
            return [Item(name="", size=self.pin.size, mark=("md5", md5), md5=self.pin.tagged(md5))]
        raw = self.listing()
        try:
            rows: list[dict[str, Any]] = json.loads(raw)
            found = [self.item(str(row["relpath"]), str(row["md5"])) for row in rows]
        except (KeyError, TypeError, ValueError) as e:
            raise IntegrityError(f"data `{self.data}`: DVC's list {self.pin.md5}.dir can't be read: {e}") from e
        return checked(found, f"data `{self.data}`")

    def item(self, name: str, md5: str) -> Item:
        if not MD5.fullmatch(md5):
            raise ValueError(f"{md5!r} is no md5")
        return Item(name=name, mark=("md5", md5), md5=self.pin.tagged(md5))

    def listing(self) -> bytes:
        for number in range(len(self.places)):
            for key in keys_of(self.pin.md5, ".dir"):
                try:
                    raw = self.store(number).get(key)
                except ObjectMissingError:
                    continue
                if hashlib.md5(raw, usedforsecurity=False).hexdigest() == self.pin.md5:
                    return raw
        raise self.nowhere([self.pin.md5 + ".dir"])

    def store(self, number: int) -> Store:
        """Return a cache or remote, opened when it is first needed. Raises StoreError."""
        while len(self.stores) <= number:
            self.stores.append(self.places[len(self.stores)]())
        return self.stores[number]

    def weight(self, items: Sequence[Item]) -> int:
        """Ask the caches for sizes, which DVC's lists don't tell. Raises FetchError for what no cache has."""
        for number in range(len(self.places)):
            if left := {plain(item) for item in items} - self.sizes.keys():
                self.locate(self.store(number), sorted(left))
        if lost := [item for item in items if plain(item) not in self.sizes]:
            raise self.nowhere([item.name or self.pin.path.name for item in lost])
        return sum(self.sizes[plain(item)][2] for item in items)

    def locate(self, store: Store, md5s: Sequence[str]) -> None:
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            for md5, found in zip(md5s, pool.map(lambda md5: located(store, md5), md5s), strict=True):
                if found:
                    self.sizes[md5] = (store, *found)

    def bring(self, items: Sequence[Item], inbox: Inbox) -> None:
        self.weight(items)
        for store in self.stores:
            here = [item for item in items if self.sizes[plain(item)][0] is store]
            asked = [(item, *self.sizes[plain(item)][1:]) for item in here]
            from_store(store, [replace(item, key=key, size=size) for item, key, size in asked], inbox)
        if inbox.missing:
            raise self.nowhere([item.name for item in inbox.missing])

    def nowhere(self, names: Sequence[str]) -> FetchError:
        hint = f"`dvc pull {self.pin.file}` brings them; a remote is found by `core.remote` in .dvc/config"
        shown = [Problem(message=f"data `{self.data}`: {one} is in no cache or remote of DVC") for one in names[:10]]
        rest = [Problem(message=f"and {len(names) - 10} more")] if len(names) > 10 else []
        return FetchError.of([*shown[:-1], *rest, replace(shown[-1], hint=hint)])  # type: ignore[return-value]


def plain(item: Item) -> str:
    return str(item.md5).removeprefix(LEGACY)


def keys_of(md5: str, suffix: str = "") -> list[str]:
    """Return where DVC keeps a content, by the layouts of its versions."""
    return [layout.format(md5[:2], md5[2:] + suffix) for layout in LAYOUTS]


def located(store: Store, md5: str) -> tuple[str, int] | None:
    for key in keys_of(md5):
        try:
            return key, store.size(key)
        except ObjectMissingError:
            continue
    return None
