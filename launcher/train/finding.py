"""Finding the checkpoint to go on from, and reading what `save` wrote."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from launcher.train import formats
from launcher.train.places import checkpoint_folder, is_finished


def latest() -> Path | None:
    """Return the newest whole checkpoint, None when there is none.

    In a run that goes on it is the one that was brought back from the store. The newest is the one that was written
    last; of those written at the same moment the one with the highest step.
    """
    try:
        with os.scandir(checkpoint_folder()) as entries:
            found = [age(entry) for entry in entries if is_finished(entry.name) and is_whole(entry)]
    except FileNotFoundError:
        return None
    return Path(max(found)[-1]) if found else None


def age(entry: os.DirEntry[str]) -> tuple[int, int, str]:
    step = step_of(entry.path)
    return entry.stat().st_mtime_ns, -1 if step is None else step, entry.path


def is_whole(entry: os.DirEntry[str]) -> bool:
    return not entry.is_symlink() and (entry.is_file() or any(Path(entry.path).iterdir()))


def step_of(path: str | os.PathLike[str]) -> int | None:
    """Return the step that a checkpoint's name tells: the last number in it, without its suffix."""
    numbers = re.findall(r"\d+", Path(path).stem)
    return int(numbers[-1]) if numbers else None


def load(path: str | os.PathLike[str] | None, *, device: str = "cpu") -> Any:
    """Return the state that `save` wrote to a path: None for None, so that `load(latest()) or ...` reads well.

    Tensors come to `device`. A folder, and a file of a suffix that `save` has no format for, is returned as its path:
    what wrote it knows how to read it. As `torch.load` does, this may run code that a `.pt` file holds: load your own.
    """
    if path is None:
        return None
    found = Path(path)
    read = None if found.is_dir() else formats.READERS.get(found.suffix)
    return read(found, device) if read else found
