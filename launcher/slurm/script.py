"""The batch script of a submission: written by submitit's own writer, from values alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.data import data_path
from launcher.errors import TargetError
from launcher.node.order import Order
from launcher.profiles.places import Places

SCRIPT = "submission.sh"


def text(order: Order, options: Mapping[str, Any], *, throttle: int | None = None) -> str:
    """Return the script that sbatch is given for an order; `options` are those of `launcher.slurm.options`.

    Nothing of it is a secret: the order names the file of the store's credentials, which only its owner can read.
    Raises TargetError when a path can't be written into a script, or submitit doesn't know an option.
    """
    from launcher.slurm.executor import ArrayExecutor

    folder = Places(order.profile.shared).submission(order.sweep, order.token)
    refuse_unwritable(folder)
    executor = ArrayExecutor(folder)
    try:
        executor.update_parameters(**parameters(order, options, folder, throttle))
    except (TypeError, ValueError, AssertionError) as e:
        raise TargetError(f"submitit can't write this batch script: {e}") from e
    tasks = len(order.groups)
    return executor.script(body(order, folder, int(options.get("nodes", 1))), tasks if tasks > 1 else None)


def parameters(order: Order, options: Mapping[str, Any], folder: str, throttle: int | None) -> dict[str, Any]:
    """Return submitit's parameters with those that are this submission's own."""
    tasks = len(order.groups)
    name = "%a" if tasks > 1 else "0"
    own = {"output": f"{folder.replace('%', '%%')}/{name}.out", "chdir": folder}
    return {
        **options,
        "job_name": order.job_name,
        "comment": f"launcher {order.sweep}",
        "array_parallelism": min(throttle or tasks, tasks),
        "setup": list(order.profile.setup),
        "additional_parameters": {**options.get("additional_parameters", {}), **own},
        "wckey": None,
    }


def body(order: Order, folder: str, nodes: int) -> str:
    """Return what the script does: the facts of this submission as variables, then the same lines for everybody."""
    facts = {
        "launcher_python": python(order.tools),
        "launcher_order": Places(order.profile.shared).order(order.sweep, order.token),
        "launcher_folder": folder,
        "launcher_nodes": str(nodes),
        "launcher_pack": str(max(map(len, order.groups))),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in facts.items()]
    return "\n".join([*lines, "", data_path("slurm", "task.sh").read_text()])


def python(tools: str) -> str:
    return str(PurePosixPath(tools) / "bin" / "python")


def refuse_unwritable(folder: str) -> None:
    if any(ord(character) < 32 or character == "\x7f" for character in folder) or not Path(folder).is_absolute():
        raise TargetError(
            f"the shared folder {folder!r} can't be named in a batch script", hint="give an absolute path of plain text"
        )
