"""Room for inputs on this node: a limit, what goes when it is reached, and a full disk told before it is full."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import DiskFullError, LauncherError, UsageError
from launcher.inputs.locks import ALONE_NOW
from launcher.inputs.shelf import LOOSE, Shelf, remove_tree
from launcher.progress import SILENT, Progress
from launcher.spec.units import MisreadError, size_bytes

LIMIT = "LAUNCHER_INPUTS_MAX"
SHARE = 0.8  # of what is free or taken by inputs: the limit where nobody sets one
LOOSE_S = 24 * 3600  # files that no entry names stay for so long: an interrupted command goes on with them


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An input on the shelf. `size` is in bytes, `used` the Unix time of its last use; `held`: now."""

    digest: str
    name: str
    kind: str
    files: int
    size: int
    used: float
    held: bool


def entries(shelf: Shelf) -> list[Entry]:
    """Return the inputs of this node, the one that was used longest ago first."""
    found = (described(shelf, path.name) for path in (shelf.root / "entries").iterdir())
    return sorted((entry for entry in found if entry), key=lambda entry: (entry.used, entry.digest))


def described(shelf: Shelf, digest: str) -> Entry | None:
    about = shelf.about(digest)
    if about is None:
        return None
    try:
        used = (shelf.root / "locks" / digest).stat().st_mtime
    except OSError:
        used = 0.0
    told = {key: about[key] for key in ("name", "kind", "files", "size")}
    return Entry(digest=digest, used=used, held=held(shelf, digest), **told)


def held(shelf: Shelf, digest: str) -> bool:
    try:
        os.close(shelf.lock(digest, ALONE_NOW))
    except BlockingIOError:
        return True
    return False


def limit(shelf: Shelf) -> int:
    """Return how many bytes inputs may take: $LAUNCHER_INPUTS_MAX, or 80% of what is free or theirs already."""
    if told := os.environ.get(LIMIT):
        return parsed(told)
    return int(SHARE * (free(shelf) + used(shelf)))


def parsed(text: str) -> int:
    """Read a size such as 500G, as in a spec. Raises UsageError."""
    try:
        return size_bytes(text.strip())
    except MisreadError as e:
        raise UsageError(f"{text!r} {e} ({LIMIT}, --to)", hint=e.hint) from e


def free(shelf: Shelf) -> int:
    found = os.statvfs(shelf.root)
    return found.f_bavail * found.f_frsize


def used(shelf: Shelf) -> int:
    """Return the bytes of all contents here, each counted once."""
    return sum(size for _, size, _ in contents(shelf))


def contents(shelf: Shelf) -> Iterator[tuple[Path, int, os.stat_result]]:
    folder = shelf.root / "files" / "sha256"
    if folder.exists():
        for part in folder.iterdir():
            yield from scan(part)


def scan(folder: Path) -> Iterator[tuple[Path, int, os.stat_result]]:
    with os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                yield Path(entry.path), stat.st_size, stat


def make(shelf: Shelf, wanted: int, what: str, progress: Progress = SILENT) -> None:
    """See that `wanted` bytes more have room, and remove what was used longest ago where they don't.

    What somebody uses stays. Raises DiskFullError when that isn't enough, before anything is fetched.
    """
    if wanted <= 0:
        return
    allowed = limit(shelf)
    if wanted > allowed:
        raise DiskFullError(
            f"{what} takes {amount(wanted)}, and inputs may take {amount(allowed)} in {shelf.root}",
            hint=f"raise {LIMIT}, or point LAUNCHER_INPUTS at a larger disk",
        )
    if (lacking := missing(shelf, wanted, allowed)) > 0:
        trim(shelf, lacking, progress)
        lacking = missing(shelf, wanted, allowed)
    if lacking > 0:
        inuse = sum(entry.size for entry in entries(shelf) if entry.held)
        raise DiskFullError(
            f"{what} takes {amount(wanted)}, and {shelf.root} lacks {amount(lacking)} for it"
            + (f"; {amount(inuse)} of inputs are in use" if inuse else ""),
            hint=f"free some, wait for other jobs, raise {LIMIT}, or point LAUNCHER_INPUTS at a larger disk",
        )


def room_for(shelf: Shelf) -> int:
    """Return how many bytes of inputs could be brought here, if all that nobody uses went."""
    kept = sum(entry.size for entry in entries(shelf) if entry.held)
    return max(0, min(free(shelf) + used(shelf), limit(shelf)) - kept)


def missing(shelf: Shelf, wanted: int, allowed: int) -> int:
    return max(wanted - free(shelf), used(shelf) + wanted - allowed)


def trim(shelf: Shelf, lacking: int, progress: Progress = SILENT) -> int:
    """Remove loose files and then inputs, longest unused first, until so many bytes are free; return how many are."""
    gone = sweep(shelf, LOOSE_S)
    for entry in entries(shelf):
        if gone >= lacking:
            break
        freed = remove(shelf, entry.digest)
        if freed is not None:
            progress.note(f"removed the input {entry.name} ({amount(freed)}): the longest unused on this node")
            gone += freed
    return gone if gone >= lacking else gone + sweep(shelf, 0)


def remove(shelf: Shelf, digest: str) -> int | None:
    """Remove an entry and what only it needed; return the freed bytes, or None when it is in use, or another's."""
    if not ours(shelf.entry(digest)):
        return None
    try:
        descriptor = shelf.lock(digest, ALONE_NOW)
    except BlockingIOError:
        return None
    try:
        about = shelf.about(digest) or {}
        items = (shelf.listed(digest) or []) if about.get("kind") == "tree" else []
        names = [item.sha256 for item in items if item.sha256] or [digest]
        away(shelf, digest)
        freed = sum(drop(shelf.file(name)) for name in dict.fromkeys(names))
        (shelf.root / "locks" / digest).unlink(missing_ok=True)
        return freed
    finally:
        os.close(descriptor)


def ours(path: Path) -> bool:
    """Tell whether we can remove a folder: read-only ones are their owner's to remove."""
    try:
        return os.geteuid() in (0, path.lstat().st_uid)
    except FileNotFoundError:
        return True


def away(shelf: Shelf, digest: str) -> None:
    """Take an entry from its place at once, then remove its files."""
    doomed = shelf.folder("partial") / f"gone-{digest}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        shelf.entry(digest).rename(doomed)
        remove_tree(doomed)


def drop(path: Path) -> int:
    """Remove a content that no entry has; return its bytes."""
    try:
        found = path.lstat()
        if found.st_nlink > 1:
            return 0
        path.unlink()
    except OSError:
        return 0
    return found.st_size


def sweep(shelf: Shelf, older_s: float) -> int:
    """Remove contents that no entry has and nobody touched for so long, and what dead processes left."""
    before, gone = time.time() - older_s, 0
    with alone_or_not(shelf) as alone:
        for path, _, stat in contents(shelf):
            if stat.st_nlink == 1 and stat.st_ctime <= (before if alone else before - LOOSE_S):
                gone += drop(path)
    for path in (shelf.root / "partial").iterdir():
        gone += sweep_part(shelf, path, before)
    return gone


@contextlib.contextmanager
def alone_or_not(shelf: Shelf) -> Iterator[bool]:
    """Tell whether nobody gathers contents, and keep it so."""
    try:
        descriptor = shelf.lock(LOOSE, ALONE_NOW)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def sweep_part(shelf: Shelf, path: Path, before: float) -> int:
    """Remove a half-fetched file or half-made entry, if nobody is at work on it."""
    try:
        if path.lstat().st_ctime > before:
            return 0
        if not ours(path):
            return 0
        descriptor = shelf.lock(path.name.partition(".")[0], ALONE_NOW)
    except (OSError, LauncherError):
        return 0
    try:
        if path.is_dir():
            remove_tree(path)
            return 0
        size = path.lstat().st_size
        path.unlink()
        return size
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def amount(size: int) -> str:
    """Write a size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"
