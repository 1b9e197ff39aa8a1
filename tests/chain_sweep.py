"""A training that comes to one end however often it is broken off: a chain of sha256, with a checkpoint at each step.

Run as a script by the runner: `chain_sweep.py START STEPS PAUSE`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path


def link(state: str, step: int) -> str:
    return hashlib.sha256(f"{state} {step}".encode()).hexdigest()


def states(start: int, steps: int) -> list[str]:
    """Return the states after 0, 1, ... steps."""
    found = [str(start)]
    for step in range(steps):
        found.append(link(found[-1], step))
    return found


def content(start: int, steps: int) -> bytes:
    """Return what the checkpoint of the last step holds."""
    return json.dumps({"start": start, "step": steps, "state": states(start, steps)[steps]}).encode()


def restored(folder: Path, start: int) -> tuple[int, str]:
    newest = max(folder.glob("step-*"), default=None)
    if newest is None:
        return 0, str(start)
    told = json.loads(newest.read_bytes())
    if told["start"] != start or states(start, told["step"])[told["step"]] != told["state"]:
        raise SystemExit(f"{newest.name} is not what it must be")
    return told["step"], told["state"]


def main() -> None:
    start, steps, pause_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    folder, out = Path(os.environ["LAUNCHER_CHECKPOINT_DIR"]), Path(os.environ["LAUNCHER_OUTPUT_DIR"])
    begin, state = restored(folder, start)
    print(f"begins at step {begin}", flush=True)
    for step in range(begin, steps):
        time.sleep(pause_s)
        state = link(state, step)
        part = folder / ".part"
        part.write_text(json.dumps({"start": start, "step": step + 1, "state": state}))
        part.rename(folder / f"step-{step + 1:06d}")
        print(f"step {step + 1}", flush=True)
    (out / "digest").write_text(state)


if __name__ == "__main__":
    main()
