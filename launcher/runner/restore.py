"""Bringing back the newest whole checkpoint that counts, every file checked by its sha256."""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

from launcher.runner import sealed
from launcher.runner.arrival import Arrival
from launcher.runner.attempt import AttemptError
from launcher.runner.freight import amount
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.claims import Claim
    from launcher.store.objects import Store

    Manifest = dict[str, Any]

FILES_AT_ONCE = 8
TRIES = 2  # bytes may also be damaged on their way


class DamagedError(Exception):
    """A checkpoint in the store, or one that was held, is not what its manifest says."""


class Restored:
    """What was brought back. `manifest` is None when there was nothing.

    `passed` says, by key, why newer ones were passed over. `held` is where it lies held on this node's disk, if it came
    from there; it stays until a checkpoint is in the store, for this attempt may be killed, too. `relied` are the
    files that the attempt may take as stored: those of the newest manifest that it inherits, if it was whole.
    """

    def __init__(self) -> None:
        self.manifest: Manifest | None = None
        self.passed: dict[str, str] = {}
        self.held = ""
        self.relied: list[Mapping[str, Any]] = []


def restore(store: Store, attempt: Attempt, claim: Claim) -> Restored:
    """Bring the newest whole checkpoint that counts into `checkpoints/`: the store's, or one held here that is newer.

    Raises a LauncherError when the store can't be asked, AttemptError when there is no room for it, OSError when
    the folder can't be written.
    """
    found = Restored()
    newest = max(map(keys.numbers, claim.inherits), default=(0, 0))
    if from_disk(attempt, newest, found):
        return found
    for key in sorted(claim.inherits, key=keys.numbers, reverse=True):
        try:
            found.manifest = fetch_checkpoint(store, attempt, key)
        except DamagedError as e:
            found.passed[key] = str(e)
            continue
        if not found.passed:
            found.relied = found.manifest["files"]
        break
    return found


def fetch_checkpoint(store: Store, attempt: Attempt, key: str) -> Manifest:
    """Fetch a checkpoint whole, then rename it into its place; return its manifest. Raises DamagedError."""
    from launcher.errors import DiskFullError

    manifest = read(store, key)
    refuse_full(attempt, manifest)
    with scratch_folder(attempt) as scratch:
        try:
            with Arrival(manifest["name"], len(manifest["files"]), manifest["bytes"]) as arrival:
                fetch_files(store, attempt.run, manifest, scratch, arrival)
        except DiskFullError as e:
            raise no_room(attempt, manifest) from e
        os.rename(os.path.join(scratch, manifest["name"]), attempt.path("checkpoints", manifest["name"]))
    return manifest


def read(store: Store, key: str) -> Manifest:
    """Read a manifest, and hold that every path in it stays inside. Raises DamagedError."""
    from launcher.errors import IntegrityError, ObjectMissingError

    try:
        manifest = sealed.read(store, key)
        plain(manifest["name"])
        manifest["bytes"] += 0
        for file in manifest["files"]:
            below("", manifest, file)
            if "link" not in file:
                int(file["mode"], 8), file["sha256"], file["size"]
    except ObjectMissingError as e:
        raise DamagedError(f"{key} is gone") from e
    except IntegrityError as e:
        raise DamagedError(e.problems[0].message) from e
    except (KeyError, TypeError, ValueError) as e:
        raise DamagedError(f"{key} is no manifest: {e}") from e
    return manifest


def fetch_files(store: Store, run: str, manifest: Manifest, scratch: str, arrival: Arrival) -> None:
    """Fetch all files of a checkpoint, several at once. Raises DamagedError for the first one that isn't whole."""
    root = os.path.join(scratch, manifest["name"])
    if manifest["kind"] == "tree":
        os.makedirs(root)
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        files = manifest["files"]
        doing = [pool.submit(fetch, store, run, file, below(scratch, manifest, file), arrival) for file in files]
        try:
            for future in doing:
                future.result()
        finally:
            for future in doing:
                future.cancel()


def fetch(store: Store, run: str, file: Mapping[str, Any], to: str, arrival: Arrival) -> None:
    """Write one file of a checkpoint. Raises DamagedError when the store's bytes are gone or not what they were."""
    from launcher.errors import IntegrityError, ObjectMissingError

    os.makedirs(os.path.dirname(to), exist_ok=True)
    if "link" in file:
        os.symlink(file["link"], to)
        return
    key = keys.blob_of(run, file)
    for left in reversed(range(TRIES)):
        try:
            store.get_file(key, to, sha256=file["sha256"], moved=arrival.moved)
            break
        except ObjectMissingError as e:
            raise DamagedError(f"{file['path']} is not in the store") from e
        except IntegrityError as e:
            if not left:
                raise DamagedError(f"{file['path']} is damaged: {str(e).partition(chr(10))[0]}") from e
    os.chmod(to, int(file["mode"], 8))
    arrival.whole()


def from_disk(attempt: Attempt, newest: tuple[int, int], found: Restored) -> bool:
    """Take what a killed runner had held completely on this node, if it is newer than what the store has."""
    from launcher.runner import holding

    for manifest, folder in reversed(holding.whole_ones(attempt)):
        try:
            at = manifest["attempt"], manifest["seq"]
            if at <= newest or at[0] >= attempt.number:
                continue
            take(attempt, manifest, folder)
        except (DamagedError, KeyError, TypeError, ValueError, OSError) as e:
            found.passed[f"held on this node: {os.path.basename(folder)}"] = str(e)
            continue
        found.manifest, found.held = manifest, folder
        return True
    return False


def take(attempt: Attempt, manifest: Manifest, folder: str) -> None:
    """Link a held checkpoint into its place, once every file is checked. Raises DamagedError, or as reading does."""
    from launcher.runner.blobs import sha256_file, walk
    from launcher.runner.holding import link_tree

    name = plain(manifest["name"])
    lines = {file["path"]: file for file in manifest["files"]}
    there = {file.path: file for file in walk(os.path.join(folder, name), "" if manifest["kind"] == "tree" else name)}
    if lines.keys() != {path for path, file in there.items() if file.kind != "other"}:
        raise DamagedError("its files are not those that it was made of")
    for path, line in lines.items():
        file = there[path]
        same = (
            os.readlink(file.full) == line["link"]
            if "link" in line
            else sha256_file(file.full, lambda: None) == line["sha256"]
        )
        if not same:
            raise DamagedError(f"{path} has changed")
    with scratch_folder(attempt) as scratch:
        link_tree(os.path.join(folder, name), os.path.join(scratch, name))
        os.rename(os.path.join(scratch, name), attempt.path("checkpoints", name))


@contextlib.contextmanager
def scratch_folder(attempt: Attempt) -> Iterator[str]:
    """Give an empty folder in which a checkpoint grows; what is left there is half, and goes."""
    scratch = attempt.path("spool", "restored")
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def refuse_full(attempt: Attempt, manifest: Manifest) -> None:
    """Raise AttemptError when a checkpoint surely has no room."""
    if free_bytes(attempt) < manifest["bytes"]:
        raise no_room(attempt, manifest)


def free_bytes(attempt: Attempt) -> int:
    stats = os.statvfs(attempt.folder)
    return stats.f_bavail * stats.f_frsize


def no_room(attempt: Attempt, manifest: Manifest) -> AttemptError:
    name, needs, free = manifest["name"], amount(manifest["bytes"]), amount(free_bytes(attempt))
    return AttemptError(
        f"the checkpoint {name} needs {needs} and the disk of {attempt.folder} has {free} left: "
        "free some and start the run again; nothing is lost, the checkpoint stays in the store"
    )


def below(scratch: str, manifest: Mapping[str, Any], file: Mapping[str, Any]) -> str:
    """Return where a file of a manifest belongs. Raises ValueError for a path that leads out."""
    if manifest["kind"] == "file":
        return os.path.join(scratch, manifest["name"])
    return os.path.join(scratch, manifest["name"], *map(plain, file["path"].split("/")))


def plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no file name")
    return name
