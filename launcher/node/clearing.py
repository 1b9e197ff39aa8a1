"""What nobody needs any more below launcher's folder on another machine: found and measured first, then removed.

What orders name that are still needed stays, and whatever came there lately. Files that are in use make way to nobody;
all of this can be sent or made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from launcher.profiles.places import Places
from launcher.store.access import Access
from launcher.target.trees import make_removable


class Ordered(Protocol):
    """What orders of all kinds name: an image by its id, the rest by paths."""

    @property
    def image(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def data(self) -> Mapping[str, str]: ...
    @property
    def tools(self) -> str: ...
    @property
    def store(self) -> Access: ...


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Names of what has to stay. While somebody is `busy` here, what is unpacked stays too, but for what surely is
    another's."""

    images: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    busy: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something that may go: `kind` is what a person calls it, `size` in bytes as it lies there."""

    kind: str
    name: str
    size: int
    paths: tuple[Path, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "bytes": self.size}


def needs_of(orders: Iterable[Ordered], *, busy: bool) -> Needs:
    """Return what orders name."""
    every = list(orders)
    return Needs(
        images=frozenset(one.image for one in every),
        codes=frozenset(Path(one.code).name for one in every if one.code),
        inputs=frozenset(Path(path).name for one in every for path in one.data.values()),
        tools=frozenset(Path(one.tools).name for one in every),
        secrets=frozenset(Path(one.store.secrets).parent.name for one in every if one.store.secrets),
        busy=busy,
    )


class Clearing:
    """One look at a folder. `older_s` is for how long something has to have been there, in seconds."""

    def __init__(self, shared: str, needs: Needs, older_s: float, now: float | None = None) -> None:
        self.shared, self.needs, self.places = Path(shared), needs, Places(shared)
        self.before = (time.time() if now is None else now) - older_s

    def found(self) -> list[Found]:
        """Return what nobody needs, in the order in which it may be removed: what is named comes after its names."""
        images = self.images()
        return [*images, *self.blobs(images), *self.files(), *self.tools(), *self.unpacked(images)]

    def images(self) -> list[Found]:
        kept = self.needs.images
        return [found("images", path) for path in below(self.shared / "images") if self.may_go(path, kept)]

    def held(self, images: list[Found]) -> set[str]:
        """Return the layers of images that stay."""
        going = {path for image in images for path in image.paths}
        return {name for path in below(self.shared / "images") if path not in going for name in layers(path)}

    def blobs(self, images: list[Found]) -> list[Found]:
        held = self.held(images)
        every = (path for shelf in below(self.shared / "blobs" / "sha256") for path in below(shelf))
        return [found("layers", path) for path in every if self.may_go(path, held)]

    def files(self) -> list[Found]:
        codes = (path for shelf in below(self.shared / "artifacts" / "sha256") for path in below(shelf))
        return [
            *(found("code", path) for path in codes if self.may_go(path, self.needs.codes)),
            *(found("inputs", path) for path in below(self.shared / "inputs") if self.may_go(path, self.needs.inputs)),
        ]

    def tools(self) -> list[Found]:
        """Return launchers that nobody begins any more; the one that runs this is none of them."""
        own = {Path(sys.prefix).name, *self.needs.tools}
        return [found("tools", path) for path in below(self.shared / "tools") if self.may_go(path, own)]

    def unpacked(self, images: list[Found]) -> list[Found]:
        """Return what was unpacked and compiled of these images; of others only while nobody works here."""
        cache, held = Path(self.places.cache()), self.held(images)
        gone = {name for image in images for path in image.paths for name in (path.name, *layers(path))} - held
        needed = held | self.needs.images | self.needs.codes
        every = (path for shelf in ("trees", "pycache") for path in below(cache / shelf) if path.suffix != ".lock")
        return [
            found("unpacked", path)
            for path in every
            if path.name in gone or (not self.needs.busy and self.may_go(path, needed))
        ]

    def may_go(self, path: Path, needed: Iterable[str]) -> bool:
        return path.name not in needed and is_older(path, self.before)


def layers(image: Path) -> list[str]:
    """Return the layers that an image's folder names; none where it can't be read."""
    try:
        return [str(one["diff_id"]) for one in json.loads((image / "image.json").read_bytes())["layers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def below(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder; nothing where it isn't there. What is about to get its name is passed over."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone
    except OSError:
        return
    yield from (folder / name for name in names if not name.startswith("."))


def is_older(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime <= before
    except OSError:
        return False


def found(kind: str, *paths: Path, name: str = "") -> Found:
    return Found(kind=kind, name=name or paths[0].name, size=sum(map(size_of, paths)), paths=paths)


def size_of(path: Path) -> int:
    """Return the bytes that a file or a tree takes on its disk; of a file with several names they count once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for place in (path, *(Path(top, name) for top, folders, names in os.walk(path) for name in (*folders, *names))):
        with contextlib.suppress(OSError):
            info = place.lstat()
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                size += info.st_blocks * 512
    return size


def remove(shared: str, one: Found) -> bool:
    """Remove what was found: first its name, then its content. Return whether nothing of it is left."""
    top = Path(shared, "tmp")
    top.mkdir(exist_ok=True)
    for path in one.paths:
        away = top / f"cleaned-{secrets.token_hex(8)}"
        try:
            path.rename(away)
        except FileNotFoundError:
            continue
        except OSError:
            return False
        if away.is_dir() and not away.is_symlink():
            with contextlib.suppress(OSError):
                make_removable(away)
            shutil.rmtree(away, ignore_errors=True)
        else:
            away.unlink(missing_ok=True)
    return True


def told(every: Iterable[Found], removed: Iterable[Found]) -> dict[str, Any]:
    """Return the answer to `clean`: all that was found, and what of it is gone."""
    return {"found": [one.to_json() for one in every], "removed": [one.to_json() for one in removed]}
