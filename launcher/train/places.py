"""Where a run keeps things, by the variables that its command gets; in the working directory outside of a run."""

from __future__ import annotations

import os
from pathlib import Path

UNFINISHED = (".tmp", ".part")  # and what begins with a dot: the runner leaves it alone, and so does `latest`


def checkpoint_folder() -> Path:
    """Return the folder of checkpoints; it need not exist."""
    return Path(os.environ.get("LAUNCHER_CHECKPOINT_DIR") or "checkpoints")


def metrics_file() -> Path:
    return Path(os.environ.get("LAUNCHER_METRICS") or "metrics.jsonl")


def is_finished(name: str) -> bool:
    """Tell by its name whether something in the folder may be a whole checkpoint."""
    return not name.startswith(".") and not name.endswith(UNFINISHED)
