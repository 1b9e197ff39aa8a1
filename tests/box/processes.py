"""Processes by their recorded ids, as the small cluster of slurm/dev keeps them: its module, under a name of ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

DEV = Path(__file__).parents[2] / "slurm" / "dev"


def loaded(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"slurm_dev_{name}", DEV / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_of_slurm = loaded("processes")
call, child, end, identity = _of_slurm.call, _of_slurm.child, _of_slurm.end, _of_slurm.identity
living, recorded, start, waited = _of_slurm.living, _of_slurm.recorded, _of_slurm.start, _of_slurm.waited
BoxError: type[Exception] = _of_slurm.ClusterError
