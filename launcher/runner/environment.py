"""The command's environment, made of what was decided: nothing of the runner's own leaks into it."""

from __future__ import annotations

import json
import os

from launcher.runner import determinism

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from launcher.runner.attempt import Attempt

LIBRARY = os.path.join(os.path.dirname(__file__), *[os.pardir] * 2, "lib")  # of the bundle; not in a source tree
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_environment(attempt: Attempt, own: Mapping[str, str]) -> dict[str, str]:
    """Return what the command sees: the image's and target's variables, those of the runner's `own` that are
    listed to be passed, the job's, then launcher's."""
    env = {"PATH": PATH, **attempt.environment}
    env.update({name: own[name] for name in attempt.passed if name in own})
    env.update(attempt.job.get("env", {}))
    env.setdefault("PYTHONUNBUFFERED", "1")  # else a line waits in the command's buffer, and dies with it
    determinism.add(env, attempt.job, attempt.path("frameworks.jsonl"))
    add_library(env, os.path.normpath(LIBRARY))
    env.update(parameter_variables(attempt.job.get("params", {})))
    env.update(
        LAUNCHER_RUN_ID=attempt.run,
        LAUNCHER_ATTEMPT=str(attempt.number),
        LAUNCHER_SEED=str(int(attempt.job.get("seed", 0))),
        LAUNCHER_PARAMS=attempt.path("params.json"),
        LAUNCHER_OUTPUT_DIR=attempt.path("outputs"),
        LAUNCHER_CHECKPOINT_DIR=attempt.path("checkpoints"),
        LAUNCHER_METRICS=attempt.path("metrics.jsonl"),
    )
    return env


def add_library(env: dict[str, str], folder: str) -> None:
    """Let the command import `launcher.train`: last in PYTHONPATH, behind a strict run's own folder and the user's."""
    if os.path.isdir(folder):
        env["PYTHONPATH"] = f"{env['PYTHONPATH']}:{folder}" if env.get("PYTHONPATH") else folder


def parameter_variables(params: Mapping[str, Any]) -> dict[str, str]:
    """Return LAUNCHER_PARAM_<NAME> for each parameter: the name in capitals, other characters as `_`; strings as
    they are, the rest as JSON (`true`, `0.1`, `null`)."""
    return {
        "LAUNCHER_PARAM_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper(): (
            value if isinstance(value, str) else json.dumps(value)
        )
        for name, value in sorted(params.items())
    }
