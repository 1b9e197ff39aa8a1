"""What a client brings with its call to begin a run: the order and the credentials of its store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.box import state
from launcher.box.credentials import put
from launcher.box.model import order_from
from launcher.cache import disk_full, written_whole
from launcher.digest import canonical_json
from launcher.errors import TargetError

RELAYED = "relayed"  # there when all that the run left here is known to be in the real store (launcher.box.giving)


def take(argument: Mapping[str, Any]) -> Path:
    """Write what came with `start`, and return the run's folder.

        {"order": path, "told": the order, "secrets": {...}, "keep": "memory" | "disk"}

    Without `told` the order is there already. The order of a run that is held by its host side stays as it is: the
    same launch came twice, and only its credentials may be newer. Raises TargetError, DiskFullError.
    """
    path = Path(argument["order"])
    if "told" not in argument:
        return path.parent
    try:
        told = order_from(argument["told"])
    except (KeyError, TypeError, ValueError) as e:
        raise TargetError(f"this is no order: {e}", hint="launch again: it brings its own tools") from e
    if secrets := argument.get("secrets"):
        put(told.folder, told.run, secrets, argument.get("keep", "memory"))
    if not state.is_alive(path.parent):
        forget_older(path, told.attempt)
        with disk_full(Path(told.folder), state.ROOM):
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                part.write_bytes(canonical_json(told.to_json()))
    return path.parent


def forget_older(path: Path, attempt: int) -> None:
    """Remove how an earlier order of the run came to its end, where this one asks for a later attempt."""
    if path.exists() and attempt > state.order(path.parent).attempt:
        for name in (state.STATE, state.CANCEL, RELAYED):
            (path.parent / name).unlink(missing_ok=True)
