"""Puts aside what a box has of a run's attempts that the real store doesn't know, and tells what it has otherwise.

`python -I -m launcher.box.parting` reads {"shared", "store", "run", "line"} and answers {"there": [...], "alive"}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from launcher.box import state
from launcher.box.lineage import Line, foreign_from, line_from
from launcher.box.stock import Stock
from launcher.store import keys

ASIDE = "parted"  # below the box's store: no key of ours begins so


def main() -> None:
    asked = json.load(sys.stdin)
    store, run = Path(asked["store"]), asked["run"]
    alive = state.is_alive(state.folder(asked["shared"], run))
    there = [] if alive else kept(store, run, line_from(asked["line"]))
    sys.stdout.write(json.dumps({"there": there, "alive": alive}))


def kept(store: Path, run: str, real: Line) -> list[str]:
    """Return the keys that are there once a strange line is aside, relative to the run."""
    folder = store / keys.run(run)
    stock = Stock(folder)
    if foreign_from(stock.line(), real) is not None:
        (store / ASIDE).mkdir(parents=True, exist_ok=True)
        folder.rename(store / ASIDE / f"{folder.name}.{time.time_ns()}")
        return []
    return [*stock.sizes, *(["job.json"] if (folder / "job.json").exists() else [])]


if __name__ == "__main__":
    main()
