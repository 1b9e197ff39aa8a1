"""Inputs that lie on this machine: a file by its sha256, a folder file by file. What didn't change isn't read again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.cache import Cache, fingerprint
from launcher.digest import CHUNK_BYTES, sha256_bytes
from launcher.errors import Problem, SpecError
from launcher.inputs.items import Item
from launcher.progress import SILENT, Progress, Task

WORKERS = 4
Memo = dict[str, object]
AS_A_RUN = "a run would not be able to either"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file or a link of a tree, by its path below the root."""

    name: str
    path: Path
    target: str | None = None  # of a link


def read(path: Path, name: str, cache: Cache, progress: Progress = SILENT, *, md5: bool = False) -> list[Item]:
    """Return the files of a local input with their digests. Modes, times and empty folders don't count; links count
    by where they point.

    `name` is the input's, for messages. Raises SpecError when it isn't there, can't be read or changes meanwhile.
    """
    root = path.resolve()
    if not root.exists():
        raise SpecError(f"data `{name}`: there is nothing at {path}")
    entries = list(walk(root, name)) if root.is_dir() else [Entry(name="", path=root)]
    digests = digest_all(entries, root, name, cache, progress, md5)
    return [known(entry, digests) for entry in entries]


def known(entry: Entry, digests: dict[str, Digests]) -> Item:
    if entry.target is not None:
        return Item(name=entry.name, target=entry.target)
    sha256, md5, size = digests[entry.name]
    return Item(name=entry.name, size=size, sha256=sha256, md5=md5)


def walk(root: Path, name: str) -> Iterator[Entry]:
    """Yield the files and links of a tree. Raises SpecError with everything that a run couldn't read."""
    problems: list[Problem] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        for item in sorted([*files, *(f for f in folders if (Path(folder) / f).is_symlink())]):
            path = Path(folder) / item
            if message := unreadable(path, root):
                problems.append(Problem(message=f"data `{name}`: {message}"))
            else:
                target = str(path.readlink()) if path.is_symlink() else None
                yield Entry(name=path.relative_to(root).as_posix(), path=path, target=target)
    if problems:
        raise SpecError.of(problems)


def refuse(error: OSError) -> None:
    raise SpecError(f"can't read {error.filename}: {error.strerror}", hint=AS_A_RUN)


def unreadable(path: Path, root: Path) -> str | None:
    """Say why a run could not use something in a tree."""
    if not path.name.isprintable():
        return f"{str(path)!r} has a name that can't be written down"
    if path.is_symlink():
        target = path.readlink()
        inside = not target.is_absolute() and (path.parent / target).resolve().is_relative_to(root)
        return None if inside else f"{path} is a link that leads out of the folder, so a run would not see it"
    mode = path.stat().st_mode
    return None if stat.S_ISREG(mode) else f"{path} is neither a file, a folder nor a link"


Digests = tuple[str, "str | None", int]  # sha256, md5 where it was asked for, size in bytes


def digest_all(
    entries: list[Entry], root: Path, name: str, cache: Cache, progress: Progress, md5: bool
) -> dict[str, Digests]:
    """Return each file's digests, read anew only where its fingerprint (size, times, inode) changed."""
    files = [entry for entry in entries if entry.target is None]
    key = sha256_bytes(os.fsencode(root))
    noted = cache.note("data", key)
    memo: Memo = noted if isinstance(noted, dict) else {}
    same = {entry.name: told for entry in files if (told := remembered(memo, entry, md5))}
    missing = [entry for entry in files if entry.name not in same]
    if not missing:
        return same
    total = sum(entry.path.stat().st_size for entry in missing)
    with progress.task(f"read data {name}", total) as task, ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda entry: digest_file(entry.path, task, md5), missing))
    fresh: Memo = {entry.name: [mark, *digests[:2]] for entry, (mark, digests) in zip(missing, found, strict=True)}
    cache.write_note("data", key, {entry.name: fresh.get(entry.name, memo.get(entry.name)) for entry in files})
    return same | {entry.name: digests for entry, (_, digests) in zip(missing, found, strict=True)}


def remembered(memo: Memo, entry: Entry, md5: bool) -> Digests | None:
    noted = memo.get(entry.name)
    if not isinstance(noted, list) or len(noted) < 2 or noted[0] != fingerprint(entry.path):
        return None
    told = noted[2] if len(noted) > 2 else None
    return None if md5 and not told else (str(noted[1]), told, int(noted[0][0]))


def digest_file(path: Path, task: Task, md5: bool = False) -> tuple[list[int], Digests]:
    """Return a file's fingerprint and digests. Raises SpecError when it changes while it is read."""
    digest, other = hashlib.sha256(), hashlib.md5(usedforsecurity=False) if md5 else None
    try:
        before = fingerprint(path)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                if other:
                    other.update(chunk)
                task.advance(len(chunk))
        after = fingerprint(path)
    except OSError as e:
        raise SpecError(f"can't read {path}: {e.strerror}", hint=AS_A_RUN) from e
    if before != after:
        raise SpecError(f"{path} changed while it was read", hint="lock again when nothing writes to it")
    return after, (digest.hexdigest(), other.hexdigest() if other else None, after[0])
