"""Bringing back the newest whole checkpoint that counts, every file checked by its sha256."""

from __future__ import annotations

import json
import os

from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.store.objects import Store


def restore(store: Store, attempt: Attempt) -> tuple[dict[str, Any] | None, list[str]]:
    """Bring the newest whole checkpoint of the run into `checkpoints/`, every file checked by its sha256.

    Return (its manifest or None when there is none, why newer ones were passed over). Raises a LauncherError or
    OSError when the store can't be listed or the folder can't be written.
    """
    import shutil

    found = [entry.key for entry in store.list(keys.checkpoints(attempt.run)) if entry.key.endswith("/manifest.json")]
    passed: list[str] = []
    for key in sorted(found, key=keys.numbers, reverse=True):
        scratch = attempt.path("spool", "restored")
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)
        try:
            manifest: dict[str, Any] = json.loads(store.get(key))
            name = plain(manifest["name"])
            for file in manifest["files"]:
                fetch(store, attempt.run, file, below(scratch, name, file["path"], manifest["kind"]))
            os.rename(os.path.join(scratch, name), attempt.path("checkpoints", name))
        except (DamagedError, KeyError, TypeError, ValueError) as e:
            passed.append(f"{key}: {e}")
            continue
        return manifest, passed
    return None, passed


class DamagedError(Exception):
    """A checkpoint in the store is not what its manifest says."""


def fetch(store: Store, run: str, file: dict[str, Any], to: str) -> None:
    """Write one file of a checkpoint. Raises DamagedError when the store's bytes are gone or not what they were."""
    import hashlib

    from launcher.errors import ObjectMissingError

    os.makedirs(os.path.dirname(to), exist_ok=True)
    if "link" in file:
        os.symlink(file["link"], to)
        return
    digest = hashlib.sha256()
    try:
        with open(to, "wb") as stream:
            for chunk in store.stream(keys.blob(run, file["sha256"])):
                digest.update(chunk)
                stream.write(chunk)
    except ObjectMissingError as e:
        raise DamagedError(f"{file['path']} is not in the store") from e
    if digest.hexdigest() != file["sha256"]:
        raise DamagedError(f"{file['path']} is damaged: its sha256 is {digest.hexdigest()}")
    os.chmod(to, int(file["mode"], 8))


def below(scratch: str, name: str, path: str, kind: str) -> str:
    """Return where a file of a manifest belongs. Raises ValueError for a path that leads out."""
    if kind == "file":
        return os.path.join(scratch, name)
    return os.path.join(scratch, name, *map(plain, path.split("/")))


def plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no file name")
    return name
