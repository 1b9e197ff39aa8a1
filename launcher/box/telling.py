"""How a run stands, told from one place: `state.json` is replaced whenever something changes."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.box import state
from launcher.box.model import Order, State
from launcher.errors import DiskFullError, LauncherError
from launcher.runner.clock import stamp

log = logging.getLogger(__name__)


class Teller:
    """Tells of the run whose folder this is. Called by the one thread that moves the run on."""

    def __init__(self, folder: Path, order: Order) -> None:
        self.folder = folder
        try:
            self.state = state.read(folder)
        except LauncherError:
            self.state = State(run=order.run, phase="waiting", when=stamp())
        self.state = replace(self.state, run=order.run, node=os.uname().nodename)

    def __call__(self, phase: str, **told: Any) -> None:
        """Say something new: a phase, and what belongs to it. What can't be written is said in the log."""
        fresh: dict[str, Any] = {"place": None, **({} if phase in ("starting", "running") else {"gpus": ()})}
        new = replace(self.state, phase=phase, **{**fresh, **told})  # type: ignore[arg-type]
        if new == self.state and (self.folder / state.STATE).exists():
            return
        self.state = replace(new, when=stamp())
        try:
            state.write(self.folder, self.state)
        except (DiskFullError, OSError) as e:
            log.warning("how the run stands can't be told: %s", e)
