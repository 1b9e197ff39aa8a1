"""Fit a line to noisy points, one at a time: small enough to read, and to be killed at any moment.

What it needs to go on is in its checkpoints: the weights, the step, and where its random numbers are. So a run that was
cut off ends with the same line, bit for bit, as one that was left alone. `launcher.train` is in every container.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

from launcher import train

SLOPE, OFFSET, NOISE = 3.0, -1.0, 0.1


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.05, help="step size")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=20, help="steps between two checkpoints")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of rest in each step")
    return parser.parse_args()


def point():
    x = random.uniform(-1, 1)
    return x, SLOPE * x + OFFSET + random.gauss(0, NOISE)


def improve(line, lr):
    """Take one step down the gradient of the squared error of a new point; return the error before it."""
    x, y = point()
    error = line["slope"] * x + line["offset"] - y
    line["slope"] -= lr * error * x
    line["offset"] -= lr * error
    return error**2


def begin():
    """Return where to begin: the state of the newest checkpoint, or a fresh one."""
    train.seed_everything()
    state = train.load(train.latest())
    if state is None:
        return {"step": 0, "line": {"slope": 0.0, "offset": 0.0}, "loss": 1.0}
    random.setstate(state.pop("random"))
    print(f"going on after step {state['step']}", flush=True)
    return state


def main():
    args = parse_args()
    state = begin()
    while state["step"] < args.steps:
        state["step"] += 1
        state["loss"] = 0.95 * state["loss"] + 0.05 * improve(state["line"], args.lr)
        train.log(state["step"], loss=state["loss"])
        if state["step"] % args.every == 0:
            train.save(state["step"], {**state, "random": random.getstate()})
        time.sleep(args.pause)
    result = json.dumps(state["line"])
    Path(os.environ.get("LAUNCHER_OUTPUT_DIR", "."), "line.json").write_text(result)
    print(result)


if __name__ == "__main__":
    main()
