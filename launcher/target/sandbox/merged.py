"""One tree made of many layers by hard links, for kernels that have no overlay mounts in user namespaces."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from launcher.cache import Cache, disk_full
from launcher.digest import canonical_json, sha256_bytes
from launcher.target.trees import exclusive, make_removable
from launcher.target.untar import OPAQUE_MARK


def tree(cache: Cache, lower: list[str]) -> Path:
    """Return the folder that shows what an overlay of `lower` (topmost first) would show.

    It is made by one rename and made once: its files are those of the layers' trees, which are checked at each use.
    """
    key = sha256_bytes(canonical_json([[folder, Path(folder).stat().st_ino] for folder in lower]))
    folder = cache.root / "merged" / key
    with disk_full(cache.root):
        folder.parent.mkdir(exist_ok=True)
        with exclusive(folder.with_suffix(".lock")):
            if not folder.exists():
                with cache.scratch() as scratch:
                    (scratch / "tree").mkdir(mode=0o755)
                    for below in reversed(lower):
                        lay(Path(below), scratch / "tree")
                    (scratch / "tree").rename(folder)
    return folder


def lay(source: Path, target: Path) -> None:
    """Put what is in `source` over what is in `target`."""
    if is_opaque(source):
        for below in target.iterdir():
            clear(below)
    for entry in os.scandir(source):
        over = target / entry.name
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            clear(over)
        elif stat.S_ISDIR(info.st_mode):
            lay_folder(Path(entry.path), over, info.st_mode)
        else:
            clear(over)
            link(entry.path, over)


def lay_folder(source: Path, over: Path, mode: int) -> None:
    if over.is_symlink() or not over.is_dir():
        clear(over)
        over.mkdir()
    over.chmod(0o700)
    lay(source, over)
    over.chmod(stat.S_IMODE(mode))


def link(source: str, target: Path) -> None:
    """Share the file, or copy it where links are refused (a limit on links, a protected file)."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def clear(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        make_removable(path)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, OPAQUE_MARK) == b"y"
    except OSError:
        return False
