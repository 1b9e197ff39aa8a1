"""What an input is made of: its files by name, the list that is kept of them, and how two such lists differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.digest import SHA256, canonical_json, tree_digest
from launcher.errors import IntegrityError, Problem, SpecError
from launcher.store.keys import quoted

Mark = tuple[str | int, ...]
"""What changes when a remote file does: its entity tag or time, and its size. Empty where a server tells neither."""

LIST_VERSION = 1
TOLD = 10  # so many changes are told one by one


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A file or link of an input. `name` is its path below the root, empty for an input that is one file.

    `size` is in bytes (0 where nobody tells); `key` says where its source has it; `target` is that of a link.
    """

    name: str
    size: int = 0
    key: str = ""
    mark: Mark = ()
    sha256: str | None = None
    md5: str | None = None
    target: str | None = None


def digest_of(items: Sequence[Item]) -> str:
    """Return the digest of an input whose files are all known: of one file its sha256, else the tree digest."""
    if len(items) == 1 and not items[0].name:
        return str(items[0].sha256)
    return tree_digest(
        (item.name, "link", item.target) if item.target is not None else (item.name, "file", str(item.sha256))
        for item in items
    )


def to_json(items: Iterable[Item]) -> bytes:
    """Return the list of a tree's files as it is kept in stores and caches."""
    return canonical_json({"version": LIST_VERSION, "files": [line(item) for item in items]})


def line(item: Item) -> dict[str, Any]:
    if item.target is not None:
        return {"path": item.name, "link": item.target}
    return {"path": item.name, "size": item.size, "sha256": item.sha256}


def from_json(data: bytes, sha256: str, place: str) -> list[Item]:
    """Read a list of files. Raises IntegrityError when it is none, or not that of the tree `sha256`."""
    try:
        told = json.loads(data)
        items = [read_line(entry) for entry in told["files"]]
    except (KeyError, TypeError, ValueError) as e:
        raise IntegrityError(f"{place}: this is no list of an input's files: {e}") from e
    files = {item.name for item in items}
    odd = len(items) > 1 and any(why_unusable(item.name) or above(item.name, files) for item in items)
    if odd or digest_of(items) != sha256:
        raise IntegrityError(f"{place}: this list of files is not that of the tree {sha256}")
    return items


def read_line(told: dict[str, Any]) -> Item:
    if "link" in told:
        return Item(name=told["path"], target=str(told["link"]))
    if not SHA256.fullmatch(told["sha256"]):
        raise ValueError(f"{told['sha256']!r} is no sha256")
    return Item(name=told["path"], size=int(told["size"]), sha256=told["sha256"])


def why_unusable(name: str) -> str | None:
    """Say why a name that somebody else chose can't be a path below a folder; None when it can."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "is no path below a folder"
    return None if name.isprintable() else "has characters that can't be written down"


def checked(items: Iterable[Item], place: str) -> list[Item]:
    """Return a remote listing, sorted by name. Raises SpecError with every name that no folder can have."""
    found = sorted(items, key=lambda item: item.name)
    files = {item.name for item in found}
    problems = [
        Problem(message=f"{place}: {item.name!r} {why}")
        for item in found
        if (why := why_unusable(item.name) or above(item.name, files))
    ]
    if problems:
        raise SpecError.of(problems)
    return found


def above(name: str, files: set[str]) -> str | None:
    """Say which file takes the place of a folder that `name` lies in."""
    parts = name.split("/")
    taken = next((part for n in range(1, len(parts)) if (part := "/".join(parts[:n])) in files), None)
    return f"lies below {taken!r}, which is a file" if taken else None


def changes(before: Iterable[Item], now: Iterable[Item], same: Callable[[Item, Item], bool]) -> list[str]:
    """Say in lines what came, went and changed between two lists; the first ten, and how many more."""
    old, new = {item.name: item for item in before}, {item.name: item for item in now}
    return shortened(list(told_changes(old, new, same)))


def told_changes(old: dict[str, Item], new: dict[str, Item], same: Callable[[Item, Item], bool]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"added: {shown(name)}"
        elif name not in new:
            yield f"removed: {shown(name)}"
        elif not same(old[name], new[name]):
            yield f"changed: {shown(name)}{sizes(old[name], new[name])}"


def shortened(lines: list[str]) -> list[str]:
    rest = len(lines) - TOLD
    return lines if rest <= 0 else [*lines[:TOLD], f"and {rest} more"]


def shown(name: str) -> str:
    return quoted(name, keep="/ ") or "the file"


def sizes(old: Item, new: Item) -> str:
    return f" ({old.size} bytes, now {new.size})" if old.size != new.size else ""


def same_bytes(old: Item, new: Item) -> bool:
    return (old.target, old.sha256) == (new.target, new.sha256)
