"""Which of several training processes this is: by torch.distributed where it was initialized, else by the variables
that torchrun, MPI and Slurm set."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


def rank() -> int:
    """Return this process's number among all of the job's; 0 when it is the only one."""
    group = distributed()
    return int(group.get_rank()) if group else number(RANKS, 0)


def local_rank() -> int:
    """Return this process's number among those of its node."""
    return number(LOCAL_RANKS, rank())


def number(names: Sequence[str], default: int) -> int:
    return next((int(value) for name in names if (value := os.environ.get(name, "")).isdigit()), default)


def distributed() -> Any:
    """Return torch.distributed if the script has initialized it, else None; torch is never imported for it."""
    found = sys.modules.get("torch.distributed")
    return found if found and found.is_available() and found.is_initialized() else None


def barrier() -> None:
    """Wait until every process got here, where there are several that know of each other."""
    if group := distributed():
        group.barrier()
