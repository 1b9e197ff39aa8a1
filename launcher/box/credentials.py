"""A run's credentials on a box: one file of its user's own, in memory, brought by whoever is in contact with the run.

    <folder>/secrets/<run>/store.json          what orders name: a link to the file in memory, or the file itself
    <memory>/launcher-<user id>/box-<name>/store.json, of    the file, and the path of the link

In memory they are gone after a reboot: the run then waits for the next contact, and does not fail. A profile that says
`credentials = "disk"` lets narrowed ones lie on the disk instead, so that nobody has to be there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.box import state
from launcher.box.needing import WAITS, need
from launcher.errors import LauncherError, TargetError
from launcher.profiles.places import Places
from launcher.target.secrets import outlives_logins, private

__all__ = ["WAITS", "credentials", "need", "put", "remove", "sweep"]

MEMORY = Path("/dev/shm")
FILE, OF = "store.json", "of"
YOUNG_S = 3600.0  # what is about to get its order


def put(shared: str, run: str, secrets: Mapping[str, str], keep: str = "memory") -> str:
    """Write a run's credentials, over older ones; return where they are now. Raises TargetError."""
    link = Path(Places(shared).secrets(run))
    try:
        link.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private(link.parent) is None:
            raise TargetError(f"{link.parent} belongs to somebody else, or others may enter it", hint="remove it there")
        place = in_memory(link) if keep == "memory" else None
        if place is None:
            written(link, secrets)
            return str(link)
        written(place / FILE, secrets)
        pointed(link, place / FILE)
        return str(place / FILE)
    except OSError as e:
        raise TargetError(f"credentials can't be kept in {link}: {e}", hint="is the box's disk full?") from e


def in_memory(link: Path) -> Path | None:
    """Return a folder in memory for what `link` names; None where there is none that lasts."""
    top = private(MEMORY / f"launcher-{os.getuid()}") if outlives_logins() else None
    own = private(top / f"box-{hashlib.sha256(os.fsencode(link)).hexdigest()[:24]}") if top else None
    if own:
        (own / OF).write_bytes(os.fsencode(link))
    return own


def written(path: Path, secrets: Mapping[str, str]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(dict(secrets), stream)
    part.replace(path)


def pointed(link: Path, place: Path) -> None:
    """Let the name that orders know lead to a file in memory."""
    part = link.with_name(f".{link.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.symlink_to(place)
    part.replace(link)


def remove(shared: str, run: str) -> None:
    """Remove a run's credentials from the box; where there are none that is no error."""
    link = Path(Places(shared).secrets(run))
    with contextlib.suppress(OSError):
        if link.is_symlink():
            discard(link.readlink().parent)
    shutil.rmtree(link.parent, ignore_errors=True)


def discard(own: Path) -> None:
    """Remove a folder in memory, if it is one of ours."""
    if own.name.startswith("box-") and own.parent == MEMORY / f"launcher-{os.getuid()}":
        shutil.rmtree(own, ignore_errors=True)


def sweep(shared: str) -> None:
    """Remove the credentials of runs that are over or forgotten, also what a crash left in memory."""
    for file in Path(Places(shared).secrets("*")).parent.parent.glob(f"*/{FILE}"):
        if is_idle(shared, file.parent.name, file):
            remove(shared, file.parent.name)
    for of in (MEMORY / f"launcher-{os.getuid()}").glob(f"box-*/{OF}"):
        with contextlib.suppress(OSError):
            link = Path(os.fsdecode(of.read_bytes()))
            if not (link.is_symlink() and link.readlink().parent == of.parent) and is_old(of):
                discard(of.parent)


def is_idle(shared: str, run: str, file: Path) -> bool:
    """Tell whether no run needs these: it is over, or they have been without an order for a while."""
    folder = state.folder(shared, run)
    if not (folder / state.ORDER).exists():
        return folder.parent.is_dir() and is_old(file)
    with contextlib.suppress(LauncherError):
        found = state.read(folder)
        return found.over and not found.alive
    return False


def is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > YOUNG_S
    except OSError:
        return False


def credentials(argument: Mapping[str, Any]) -> dict[str, str]:
    """Answer the agent's question of this name: {"shared": ..., "runs": {run: {...}}, "keep": "memory"}.

    A run that has no order here, or is over, gets none.
    """
    shared, found = argument["shared"], {}
    for run, secrets in argument["runs"].items():
        folder = state.folder(shared, run)
        if (folder / state.ORDER).exists() and not state.read(folder).over:
            found[run] = put(shared, run, secrets, argument.get("keep", "memory"))
    return found
