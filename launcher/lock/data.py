"""Pin local data: a file by its sha256, a folder by its tree digest. What didn't change is not read again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.cache import Cache, fingerprint
from launcher.digest import CHUNK_BYTES, sha256_bytes, tree_digest
from launcher.errors import IntegrityError, Problem, SpecError
from launcher.lock.model import DataPin
from launcher.progress import SILENT, Progress, Task
from launcher.spec.model import DataSpec

WORKERS = 4
Memo = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file or a link of a tree, by its path below the root."""

    name: str
    path: Path
    target: str | None = None  # of a link


def pin_data(data: DataSpec, cache: Cache, progress: Progress = SILENT) -> DataPin:
    """Digest one input. Modes, times and empty folders don't count; links count by where they point.

    Raises SpecError when it isn't there, can't be read or changes meanwhile, IntegrityError when it isn't what the
    spec's sha256 says.
    """
    if data.path is None:
        raise SpecError(f"data `{data.name}`: {data.url} can't be pinned here")
    root = data.path.resolve()
    if not root.exists():
        raise SpecError(f"data `{data.name}`: there is nothing at {data.path}")
    kind = "tree" if root.is_dir() else "file"
    entries = list(walk(root, data.name)) if kind == "tree" else [Entry(name="", path=root)]
    digests = digest_all(entries, root, data.name, cache, progress)
    sha256 = tree_of(entries, digests) if kind == "tree" else digests[""]
    if data.sha256 not in (None, sha256):
        raise IntegrityError(
            f"data `{data.name}`: {data.path} has sha256 {sha256}, and the spec says {data.sha256}",
            hint="put the right data there, or correct the spec",
        )
    size = sum(entry.path.stat().st_size for entry in entries if entry.target is None)
    return DataPin(name=data.name, kind="tree" if kind == "tree" else "file", size=size, sha256=sha256)


def tree_of(entries: list[Entry], digests: Mapping[str, str]) -> str:
    return tree_digest(
        (entry.name, "file", digests[entry.name]) if entry.target is None else (entry.name, "link", entry.target)
        for entry in entries
    )


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
    raise SpecError(f"can't read {error.filename}: {error.strerror}", hint="a run would not be able to either")


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


def digest_all(entries: list[Entry], root: Path, name: str, cache: Cache, progress: Progress) -> dict[str, str]:
    """Return each file's sha256, read anew only where its fingerprint (size, times, inode) changed."""
    files = [entry for entry in entries if entry.target is None]
    key = sha256_bytes(os.fsencode(root))
    noted = cache.note("data", key)
    memo: Memo = noted if isinstance(noted, dict) else {}
    known = {entry.name: found for entry in files if (found := remembered(memo, entry))}
    missing = [entry for entry in files if entry.name not in known]
    if not missing:
        return known
    total = sum(entry.path.stat().st_size for entry in missing)
    with progress.task(f"read data {name}", total) as task, ThreadPoolExecutor(WORKERS) as pool:
        read = list(pool.map(lambda entry: digest_file(entry.path, task), missing))
    fresh: Memo = {entry.name: [mark, sha256] for entry, (mark, sha256) in zip(missing, read, strict=True)}
    cache.write_note("data", key, {entry.name: fresh.get(entry.name, memo.get(entry.name)) for entry in files})
    return known | {entry.name: sha256 for entry, (_, sha256) in zip(missing, read, strict=True)}


def remembered(memo: Memo, entry: Entry) -> str | None:
    noted = memo.get(entry.name)
    if isinstance(noted, list) and len(noted) == 2 and noted[0] == fingerprint(entry.path):
        return str(noted[1])
    return None


def digest_file(path: Path, task: Task) -> tuple[list[int], str]:
    """Return a file's fingerprint and sha256. Raises SpecError when it changes while it is read."""
    import hashlib

    digest = hashlib.sha256()
    try:
        before = fingerprint(path)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                task.advance(len(chunk))
        after = fingerprint(path)
    except OSError as e:
        raise SpecError(f"can't read {path}: {e.strerror}", hint="a run would not be able to either") from e
    if before != after:
        raise SpecError(f"{path} changed while it was read", hint="lock again when nothing writes to it")
    return after, digest.hexdigest()
