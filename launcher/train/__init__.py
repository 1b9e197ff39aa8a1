"""What a training script may import: checkpoints that are whole or not there, metrics, seeds. Nothing is installed.

    from launcher import train

    state = train.load(train.latest()) or {"step": 0, "weights": start()}
    for step in range(state["step"] + 1, 1001):
        state = {"step": step, "weights": improve(state["weights"])}
        train.log(step, loss=loss(state))
        if step % 100 == 0:
            train.save(step, state)

Inside a run everything goes where the run keeps it; elsewhere to `./checkpoints` and `./metrics.jsonl`. All of it is
optional: a file that is renamed into `$LAUNCHER_CHECKPOINT_DIR`, and lines in `$LAUNCHER_METRICS`, do as well.
"""

from __future__ import annotations

from launcher.train.finding import latest, load, step_of
from launcher.train.metrics import log
from launcher.train.saving import save
from launcher.train.seeding import seed_everything

__all__ = ["latest", "load", "log", "save", "seed_everything", "step_of"]
