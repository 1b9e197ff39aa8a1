"""Calls sbatch, and reads what it says when it doesn't take a job: surely not, not now, or nobody can tell."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from launcher.data import data_path
from launcher.errors import DiskFullError, ProcessError, TargetError
from launcher.process import run
from launcher.toml import parse

Kind = Literal["job", "limit", "too_big", "refused", "unknown"]
LONGEST_S = 300.0  # sbatch asks a busy controller again for two minutes (sbatch.c, MAX_RETRIES)
KEPT = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "SLURM_CONF", "TZ", "USER"}
MODULES = re.compile(r"SLURM_CONF_SERVER|LC_\w+|(LMOD|MODULE|_LMFILES_|LOADEDMODULES|BASH_ENV)\w*|BASH_FUNC_.*")


def call(script: str, further: Sequence[str] = (), *, pass_fds: Sequence[int] = ()) -> tuple[Kind, str]:
    """Submit a script; return ("job", its id), or what became of it and Slurm's own words.

    `pass_fds` are held open by sbatch for as long as it lives, also when we don't. Raises TargetError when there is no
    sbatch here.
    """
    argv = command(script, further)
    try:
        done = run(argv, env=environment(os.environ), timeout_s=LONGEST_S, check=False, pass_fds=pass_fds)
    except ProcessError as e:
        if isinstance(e.__cause__, FileNotFoundError):
            hint = "is this a login node? the target's `host` names one, its `setup` may load a module"
            raise TargetError("there is no sbatch here", hint=hint) from e
        return "unknown", e.problems[0].message
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 0 and (job := job_id(done.stdout.decode(errors="replace"))):
        return "job", job
    return judged(said or f"sbatch ended with code {done.returncode}", done.returncode)


def command(script: str, further: Sequence[str] = ()) -> list[str]:
    return ["sbatch", "--parsable", *further, script]


def job_id(said: str) -> str | None:
    """Read what `sbatch --parsable` prints: the id, and after a semicolon the cluster where there are several."""
    found = re.search(r"^(\d+)(;\S+)?\s*$", said, re.MULTILINE)
    return found[1] if found else None


def judged(said: str, code: int) -> tuple[Kind, str]:
    """Say what an sbatch that failed with these words has done. Words that nobody knows are no proof of anything."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in said.splitlines()]
    text = "; ".join(line for line in lines if line) or said
    if code < 0:
        return "unknown", f"sbatch was killed by signal {-code}"
    for kind, patterns in words().items():
        if any(pattern.search(said) for pattern in patterns):
            return kind, text
    return "unknown", text


@cache
def words() -> Mapping[Kind, tuple[re.Pattern[str], ...]]:
    """Read slurm/sbatch.toml: which words of sbatch mean what, the more telling ones first."""
    path = data_path("slurm", "sbatch.toml")
    told: Mapping[str, Any] = parse(path.read_text(), path.name, TargetError)
    order: tuple[Kind, ...] = ("unknown", "too_big", "limit", "refused")
    return {kind: tuple(re.compile(re.escape(one), re.IGNORECASE) for one in told[kind]["says"]) for kind in order}


def environment(whole: Mapping[str, str]) -> dict[str, str]:
    """Return what sbatch, and so the job, gets of an environment: no secrets, and no options of another job.

    SBATCH_* would count more than the script's own options (sbatch(1), INPUT ENVIRONMENT VARIABLES), and SLURM_* of a
    job that submits another would be taken over. Modules need theirs.
    """
    return {name: value for name, value in whole.items() if name in KEPT or MODULES.fullmatch(name)}


def full(error: OSError, where: str) -> DiskFullError | TargetError:
    """Return our error for a shared folder that can't be written."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space is left in {where}", hint="free some, or name another folder as `shared`")
    return TargetError(
        f"{where} can't be written: {error.strerror}", hint="name another folder as the target's `shared`"
    )
