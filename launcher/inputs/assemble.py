"""An input from the contents on the shelf: a file, or a folder of further names of them, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from launcher.cache import disk_full
from launcher.digest import canonical_json
from launcher.errors import IntegrityError
from launcher.inputs.items import Item, digest_of, why_unusable
from launcher.inputs.shelf import FULL, TIME_NS, Shelf, remove_tree
from launcher.lock.model import DataPin

NO_LINKS = (errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EACCES)


def assemble(shelf: Shelf, pin: DataPin, items: Sequence[Item]) -> None:
    """Make the entry of an input whose files are all on the shelf; the caller holds its lock.

    Raises FileNotFoundError when a content was removed meanwhile: the caller brings it again. DiskFullError.
    """
    if digest_of(items) != pin.sha256:
        raise IntegrityError(f"data `{pin.name}`: these files are not those of {pin.sha256}")
    made = shelf.folder("partial") / f"{pin.sha256}.{secrets.token_hex(4)}"
    try:
        with disk_full(shelf.root, FULL):
            made.mkdir()
            fill(shelf, made / "data", pin.kind, items)
            (made / "about.json").write_bytes(canonical_json(about(pin, items)))
            if pin.kind == "tree":
                shelf.note_list(pin.sha256, list(items))
            replace(made, shelf.entry(pin.sha256))
    finally:
        remove_tree(made)


def about(pin: DataPin, items: Sequence[Item]) -> dict[str, object]:
    return {"version": 1, "name": pin.name, "kind": pin.kind, "size": pin.size, "files": len(items)}


def replace(made: Path, entry: Path) -> None:
    """Put a made entry into its place; a damaged one that is there goes first."""
    if entry.exists():
        old = made.with_suffix(".old")
        entry.rename(old)
        remove_tree(old)
    made.rename(entry)


def fill(shelf: Shelf, data: Path, kind: str, items: Sequence[Item]) -> None:
    if kind == "file":
        link(shelf.file(str(items[0].sha256)), data)
        return
    data.mkdir()
    folders = {""}
    for item in items:
        if why_unusable(item.name):
            raise IntegrityError(f"{item.name!r} is no path below a folder")
        above = item.name.rpartition("/")[0]
        if above not in folders:
            (data / above).mkdir(parents=True, exist_ok=True)
            folders.add(above)
        if item.target is None:
            link(shelf.file(str(item.sha256)), data / item.name)
        else:
            (data / item.name).symlink_to(item.target)
    for folder, _, _ in os.walk(data, topdown=False):
        Path(folder).chmod(0o555)


def link(content: Path, name: Path) -> None:
    """Give a content another name; copy it where the file system can't, or doesn't let us."""
    try:
        os.link(content, name)
    except OSError as e:
        if e.errno not in NO_LINKS:
            raise
        with contextlib.suppress(FileNotFoundError):
            name.unlink()
        shutil.copyfile(content, name)
        name.chmod(0o444)
        os.utime(name, ns=(TIME_NS, TIME_NS))
