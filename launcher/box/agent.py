"""What is asked of a box: `python -I -m launcher.box.agent` answers one question, `... wake FOLDER` is for reboots.

    start    {"order": path, "told": ...}        start the run, or find it started         -> State
    states   {"shared": folder, "runs": [...]}   how runs stand; all where `runs` is null  -> [State]
    cancel   {"shared": folder, "runs": [...]}   end runs, also those that wait            -> [State]

Every question wakes what is not over and has nobody who looks after it. Without `shared` it is the folder that these
tools lie in.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.box import state
from launcher.cache import disk_full, written_whole
from launcher.errors import LauncherError, TargetError

if TYPE_CHECKING:
    from launcher.box.model import Order

OWN = ("jobs", "store", "inputs", "artifacts", "queue")  # below launcher's folder
LAST_S = 30.0  # so long the last acts of a host side may take
CANCEL_S = 10.0  # so long a question waits for what it has asked to end


def start(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Start a run by its order, unless it was; a new order for a run that is over begins it anew."""
    from launcher.box import keeping

    folder = Path(argument["order"]).expanduser().parent
    with state.changing(folder):
        if "told" in argument:
            make_way(folder, argument["told"]["attempt"])
            take_order(folder, argument)
        order, found = state.order(folder), state.read(folder)
        if found.over and not found.alive and order.attempt > (found.attempt or 0):
            for name in (state.STATE, state.CANCEL, state.RELAYED):
                (folder / name).unlink(missing_ok=True)
        if not found.alive:
            age(order, argument.get("silent_since"))
        keeping.begin(folder)
    keeping.wake(order.folder)
    return told(folder)


def make_way(folder: Path, attempt: int) -> None:
    """Wait for a host side whose run is over to be gone, where a later attempt is to begin: it would never.

    Raises TargetError while an earlier order of the run is not over yet.
    """
    until = time.monotonic() + LAST_S
    while state.is_alive(folder) and state.order(folder).attempt < attempt:
        if time.monotonic() > until or not state.read(folder).over:
            run = folder.name
            hint = f"`launcher attach {run}` follows it, `launcher cancel {run}` ends it"
            raise TargetError(f"{run} is under way on {os.uname().nodename}", hint=hint)
        time.sleep(0.02)


def take_order(folder: Path, argument: Mapping[str, Any]) -> None:
    """Write the order that came with the question, and before it the run's credentials, if there are some."""
    from launcher.box.credentials import put
    from launcher.box.model import order_from

    told = order_from(argument["told"])
    with disk_full(Path(told.folder), state.ROOM):
        close(Path(told.folder))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if argument.get("secrets"):
            put(told.folder, told.run, argument["secrets"], argument.get("keep", "memory"))
        with written_whole(folder / state.ORDER) as part:
            part.write_text(json.dumps(argument["told"]))


def close(shared: Path) -> None:
    """Let no other user of the box list or write what lies in launcher's folder; engines may pass through it still."""
    for part in OWN:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            mode = (shared / part).stat().st_mode & 0o7777
            if mode & 0o066:
                (shared / part).chmod(mode & ~0o066)


def age(order: Order, when: float | None) -> None:
    """Let the signs of life of earlier attempts be as old as they are (Unix time, s): they were copied here just now,
    and nobody should wait for a lease that ran out long ago."""
    from launcher.store import folder_of as folder_of_store
    from launcher.store import keys

    store = folder_of_store(order.store.url) if order.ship == "relay" and when else None
    for part in ("events", "claims", "heartbeats") if store else ():
        for path in Path(str(store), keys.run(order.run), part).rglob("*.json"):
            with contextlib.suppress(OSError):
                os.utime(path, (when or 0.0, when or 0.0))


def states(argument: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tell how runs stand; those that are not here are left out."""
    from launcher.box import keeping

    shared = folder_of(argument)
    keeping.wake(shared)
    found = []
    for folder in chosen(shared, argument.get("runs")):
        with contextlib.suppress(*([LauncherError] if argument.get("runs") is None else [])):  # it hides no other
            found.append(told(folder))
    return found


def cancel(argument: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask runs to end, and wait a moment for it. What has no host side gets one, which ends what is left of the run."""
    from launcher.box import keeping

    shared = folder_of(argument)
    folders = chosen(shared, argument["runs"])
    for folder in folders:
        if not state.read(folder).over:
            state.ask_to_cancel(folder)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if holder := state.holder(folder):
                    os.kill(holder, signal.SIGTERM)
    keeping.wake(shared)
    until = time.monotonic() + CANCEL_S
    while time.monotonic() < until and not all(state.read(folder).over for folder in folders):
        time.sleep(0.05)
    return [told(folder) for folder in folders]


def chosen(shared: str, runs: Sequence[str] | None) -> list[Path]:
    """Return the folders of runs that are here."""
    every = state.folders(shared)
    return every if runs is None else [folder for folder in every if folder.name in runs]


def told(folder: Path) -> dict[str, Any]:
    """Tell how a run stands; what can't be read is told as a state of its own."""
    try:
        return state.read(folder).to_json()
    except LauncherError as e:
        raise TargetError(f"{folder.name}: {e.problems[0].message}", hint="launch again, or remove its folder") from e


def folder_of(argument: Mapping[str, Any]) -> str:
    """Return launcher's folder on this box."""
    shared = argument.get("shared") or argument.get("folder")
    return str(Path(shared).expanduser() if shared else Path(sys.prefix).parents[1])


def credentials(argument: Mapping[str, Any]) -> dict[str, str]:
    """Keep new credentials of runs (launcher.box.credentials), and wake what waited for them."""
    from launcher.box import keeping
    from launcher.box.credentials import credentials as keep

    found = keep({**argument, "shared": folder_of(argument)})
    keeping.wake(folder_of(argument))
    return found


def clean(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what nobody needs, and remove it where that is wanted (launcher.box.cleaning)."""
    from launcher.box.cleaning import clean as look_and_clean

    return look_and_clean({**argument, "shared": folder_of(argument)})


FUNCTIONS = {"start": start, "states": states, "cancel": cancel, "credentials": credentials, "clean": clean}


def main(words: Sequence[str]) -> None:
    os.umask(os.umask(0o022) | 0o022)
    if words[:1] == ["wake"]:
        from launcher.box import keeping

        keeping.wake(words[1])
        return
    from launcher.remote.agent import serve

    serve(FUNCTIONS)


if __name__ == "__main__":
    main(sys.argv[1:])
