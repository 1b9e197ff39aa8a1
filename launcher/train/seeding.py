"""One seed for every generator of random numbers that a script shares with its libraries."""

from __future__ import annotations

import importlib
import os
import random
from typing import Any

LARGEST = 0xFFFFFFFF  # numpy.random.seed takes no larger one


def seed_everything(seed: int | None = None) -> int:
    """Seed `random`, numpy's shared generator and every device of torch, where they are installed; return the seed.

    Without one it is the run's (LAUNCHER_SEED), and 0 outside of a run. Generators of one's own, jax's keys among
    them, take the returned number. All processes of a job get the same.
    """
    number = int(os.environ.get("LAUNCHER_SEED") or 0) if seed is None else int(seed)
    random.seed(number)
    if numpy := installed("numpy"):
        numpy.random.seed(number & LARGEST)
    if torch := installed("torch"):
        torch.manual_seed(number)
    return number


def installed(name: str) -> Any:
    """Import a library; None where there is none that works."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: of torch, for a shared library that is missing
        return None
