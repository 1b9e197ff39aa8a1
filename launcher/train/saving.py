"""Saving: written beside, synced, renamed. Whoever looks sees the whole checkpoint or none, after a power cut too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.train import formats, ranks
from launcher.train.places import checkpoint_folder, is_finished


def save(step: int, state: Any, *, name: str | None = None) -> Path:
    """Save a checkpoint of a step; return its path.

    `state` decides how: tensors of torch by `torch.save` (`.pt`), arrays and dicts of arrays as `.npz`, what JSON can
    say as `.json`, bytes as `.bin`, a path by a copy. A function is called with the path that it is to write a file or
    folder to; with torch.distributed initialized it is called on every process, for torch.distributed.checkpoint, and
    each of them has to call `save`. Everything else is written by rank 0 alone, and `save` does nothing elsewhere.

    `name` is a file name in which `{step}` stands for the step; its suffix chooses the format (`.safetensors` too). By
    default it is `step-00001000` and a suffix. A name that is there already is replaced.

    Raises TypeError for what can't be saved, ValueError for a name that is none, OSError when the disk is full.
    """
    write, suffix = formats.writer(state, name)
    target = checkpoint_folder() / named(step, name, suffix)
    if callable(state) and ranks.distributed():
        together(write, target)
    elif ranks.rank() == 0:
        alone(write, target)
    return target


def named(step: int, name: str | None, suffix: str) -> str:
    """Return a checkpoint's file name. Raises ValueError."""
    found = f"step-{step:08d}{suffix}" if name is None else name.replace("{step}", str(step))
    found += "" if found.endswith(suffix) else suffix
    if not found or "/" in found or "\0" in found or not is_finished(found):
        raise ValueError(f"{found!r} is no name for a checkpoint: no slash, no dot first, no .tmp or .part last")
    return found


def beside(target: Path) -> Path:
    """Return where a checkpoint is written before it is whole; the suffix stays, since some writers look at it."""
    return target.with_name(f".saving-{target.name}")


def alone(write: Callable[[Path], None], target: Path) -> None:
    part = beside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    try:
        write(part)
        settle(part, target)
    except BaseException:
        remove(part)
        raise


def together(write: Callable[[Path], None], target: Path) -> None:
    """Let every process write its part; the first of each node, whose folder may be its own, renames the whole."""
    part, leads = beside(target), ranks.local_rank() == 0
    if leads:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
    ranks.barrier()
    write(part)
    ranks.barrier()
    if ranks.rank() == 0:
        settle(part, target)
    ranks.barrier()
    if leads and part.exists():  # a folder that rank 0 doesn't see
        settle(part, target)
    ranks.barrier()


def settle(part: Path, target: Path) -> None:
    """Bring what was written to the disk, then to its name. Raises FileNotFoundError when nothing was written."""
    if not part.exists():
        raise FileNotFoundError(f"the function that was given to save() wrote nothing to {part}")
    sync(part)
    if target.is_dir() or (part.is_dir() and target.exists()):  # rename(2) replaces files and empty folders only
        old = target.with_name(f".replaced-{target.name}")
        remove(old)
        target.rename(old)
        part.rename(target)
        remove(old)
    else:
        part.replace(target)
    sync_one(target.parent)


def sync(path: Path) -> None:
    """Bring a file, or a folder with all in it, to the disk (fsync(2): a new name needs its folder's too)."""
    if path.is_dir():
        for place, _, names in os.walk(path, topdown=False):
            for name in names:
                sync_one(Path(place, name))
            sync_one(Path(place))
    else:
        sync_one(path)


def sync_one(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
