"""Fetching files of a run: each checked by its sha256, and never half under its own name."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.digest import sha256_file
from launcher.errors import IntegrityError, ObjectMissingError, Problem, StoreError, UsageError
from launcher.progress import SILENT, Progress, Task
from launcher.records.choosing import Piece
from launcher.store.objects import Store

FILES_AT_ONCE = 8
STAGING = ".launcher-get-"  # what a killed one left is removed by another one, a day later
STRAY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of it: how many were fetched, and how many were there already."""

    files: int
    bytes: int
    kept: int


def fetch(
    store: Store, wanted: Sequence[Piece], folder: Path, *, force: bool = False, progress: Progress = SILENT
) -> Fetched:
    """Bring files to a folder, several at once. What is there already, with the right bytes, stays.

    Raises UsageError, before anything is fetched, for files that are there and differ, unless `force`; IntegrityError
    or ObjectMissingError for those that the store doesn't have as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [one for one in wanted if one.link is None]
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        differs = dict(zip(files, pool.map(lambda one: differing(folder, one), files), strict=True))
    refuse([one for one in files if differs[one] and not (force and (folder / one.path).is_file())], folder)
    missing = [one for one in files if differs[one] is not False]
    with staged(folder) as part, progress.task("fetching", sum(one.size for one in missing)) as task:
        run_all(lambda number: fetch_one(store, missing[number], folder, part / str(number), task), range(len(missing)))
    for one in wanted:
        if one.link is not None:
            link(folder, one.path, one.link)
    return Fetched(files=len(missing), bytes=sum(one.size for one in missing), kept=len(files) - len(missing))


def differing(folder: Path, wanted: Piece) -> bool | None:
    """Tell whether a file is there with other bytes; None when it isn't there."""
    path = folder / wanted.path
    if not path.is_file():
        return True if path.is_dir() else None
    return path.stat().st_size != wanted.size or sha256_file(path)[0] != wanted.sha256


def refuse(differ: Iterable[Piece], folder: Path) -> None:
    problems = [Problem(message=f"{folder / one.path} is there and is another file") for one in differ]
    if problems:
        hint = "--force writes over them, -o names another folder"
        raise UsageError.of([*problems[:-1], Problem(message=problems[-1].message, hint=hint)])


def run_all(action: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Do all, several at once; the first error comes out, and what hasn't begun by then is left."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        doing = [pool.submit(action, number) for number in numbers]
        try:
            for future in doing:
                future.result()
        finally:
            for future in doing:
                future.cancel()


def fetch_one(store: Store, wanted: Piece, folder: Path, part: Path, task: Task) -> None:
    """Fetch a file beside its place, then rename it there."""
    place = inside(folder, wanted.path)
    try:
        store.get_file(wanted.key, part, sha256=wanted.sha256, moved=lambda count: task.advance(count))
    except ObjectMissingError as e:
        hint = "was it removed meanwhile, by `keep` or by hand?"
        raise ObjectMissingError(f"{store.url}: {wanted.path} is not there any more", hint=hint) from e
    except IntegrityError as e:
        hint = "try again; if it stays so, the store has lost its bytes: `--checkpoint NAME` takes an older one"
        raise IntegrityError(f"{wanted.path} is not what its manifest says: {e.problems[0].message}", hint=hint) from e
    part.chmod(wanted.mode)
    part.replace(place)


def inside(folder: Path, path: str) -> Path:
    """Make the folders above a path and return it.

    Raises StoreError where a link leads out of the folder, UsageError where a file is in the way.
    """
    place = folder / path
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{place.parent} is no folder", hint="-o names another one to fetch to") from None
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{place} leads out of {folder}, by a link", hint="fetch to another folder with -o")
    return place


def link(folder: Path, path: str, to: str) -> None:
    """Make a symbolic link, after all files: nothing is written through it."""
    place = inside(folder, path)
    if place.is_symlink() and place.readlink() == Path(to):
        return
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    place.symlink_to(to)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a folder beside the files to come; what others left in theirs when they were killed is removed."""
    for path in folder.glob(f"{STAGING}*"):
        if time.time() - path.stat().st_mtime > STRAY_S:
            shutil.rmtree(path, ignore_errors=True)
    part = folder / f"{STAGING}{os.getpid()}-{os.urandom(4).hex()}"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
