"""Processes by their recorded ids, as the small cluster of slurm/dev keeps them: its module, under a name of ours."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
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
living, recorded, waited = _of_slurm.living, _of_slurm.recorded, _of_slurm.waited
BoxError: type[Exception] = _of_slurm.ClusterError
_started: list[subprocess.Popen[bytes]] = []  # by this process, which has to be told when they end


def start(args: Sequence[str], record: Path, log: Path) -> None:
    """Start a program that outlives this one, and write down who it is."""
    _started[:] = [one for one in _started if one.poll() is None]
    with log.open("ab") as out:
        null = subprocess.DEVNULL
        process = subprocess.Popen(args, stdin=null, stdout=out, stderr=out, start_new_session=True, cwd="/")
    _started.append(process)
    record.write_text(identity(process.pid))
