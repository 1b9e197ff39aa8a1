"""The run's folder before the command starts: what an earlier attempt left is put aside, never mixed in."""

from __future__ import annotations

import contextlib
import json
import os

from launcher.runner.outbox import Item, Outbox
from launcher.runner.spool import leftover
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.runner.attempt import Attempt


def prepare(attempt: Attempt) -> None:
    """Make the folders, empty, and params.json. Raises OSError."""
    forget_older(attempt)
    for name in ("outputs", "checkpoints", "metrics.jsonl", "missing.json", "frameworks.jsonl", "others"):
        put_aside(attempt, name)
    for name in ("outputs", "checkpoints", "spool", *(["others"] if attempt.nodes > 1 else [])):
        os.makedirs(attempt.path(name), exist_ok=True)
    with open(attempt.path("params.json"), "w", encoding="utf-8") as stream:
        json.dump(attempt.job.get("params", {}), stream, indent=1, ensure_ascii=False)


def forget_older(attempt: Attempt) -> None:
    """Remove what was put aside before, so that many attempts don't fill the disk with copies."""
    with contextlib.suppress(OSError):
        for name in os.listdir(attempt.path("left")):
            import shutil

            shutil.rmtree(attempt.path("left", name), ignore_errors=True)


def put_aside(attempt: Attempt, name: str) -> None:
    """Move what an earlier attempt left to `left/<n>/`. It may be half-written: only the store's is to be trusted."""
    path = attempt.path(name)
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.listdir(path):
            return
        os.lstat(path)
        aside = attempt.path("left", str(attempt.number))
        os.makedirs(aside, exist_ok=True)
        if not os.path.lexists(os.path.join(aside, name)):
            os.rename(path, os.path.join(aside, name))


def rescue_logs(attempt: Attempt, outbox: Outbox) -> None:
    """Post the log chunks that earlier runners were killed with."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(attempt.path("spool"))):
            if name.isdigit() and int(name) < attempt.number:
                for chunk in leftover(attempt.path("spool", name)):
                    outbox.post(Item(keys.log(attempt.run, int(name), chunk.seq), b"", chunk))
