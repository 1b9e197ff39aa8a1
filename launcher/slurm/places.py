"""The files by which submissions of one site are told apart, on its shared folder.

sweeps/<sweep>/<token>.lock          held by who submits it, and by their sbatch when they are dead
sweeps/<sweep>/<token>/began         sbatch was, or is about to be, called
sweeps/<sweep>/<token>/outcome.json  what came of that; written once, by a rename
sweeps/<sweep>/<token>/job-<id>      written by each array that has begun, so that its id is known in any case
sweeps/<sweep>/waiting               empty: something doesn't fit the site's limit yet
sweeps/<sweep>/continue.lock         held by the one that submits what has waited
sweeps/<sweep>/again                 empty: another task has ended meanwhile, so look once more
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from launcher.profiles.places import Places
from launcher.slurm.script import SCRIPT


class Desk:
    """The files of one submission."""

    def __init__(self, shared: str, sweep: str, token: str) -> None:
        places = Places(shared)
        self.token = token
        self.folder = Path(places.submission(sweep, token))
        self.order = Path(places.order(sweep, token))
        self.lock = self.folder.with_name(f"{token}.lock")
        self.script = self.folder / SCRIPT
        self.began = self.folder / "began"
        self.outcome = self.folder / "outcome.json"

    def traces(self) -> list[str]:
        """Return the ids of arrays that have begun under this token."""
        return sorted(path.name.removeprefix("job-") for path in self.folder.glob("job-*"))

    def told(self) -> dict[str, Any] | None:
        """Return the outcome that somebody has written; None where there is none."""
        try:
            told = json.loads(self.outcome.read_bytes())
        except FileNotFoundError:
            return None
        return told if isinstance(told, dict) else None


def waiting(shared: str, sweep: str) -> Path:
    return Path(Places(shared).at("sweeps", sweep, "waiting"))


def continue_lock(shared: str, sweep: str) -> Path:
    return Path(Places(shared).at("sweeps", sweep, "continue.lock"))


def again(shared: str, sweep: str) -> Path:
    return Path(Places(shared).at("sweeps", sweep, "again"))


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file by a rename, so that nobody ever sees half of it. Raises OSError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
