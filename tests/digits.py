"""The real example as a sweep of any number of points: the folder of `examples/digits`, with a file of points."""

from __future__ import annotations

import shutil
from pathlib import Path

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
SPEC = """\
sweep:
  file: points.csv
"""


def sweep_of(count: int, folder: Path, *, epochs: int = 5, more: str = "") -> Path:
    """Write the example as a sweep of so many points into a folder; return its spec.

    `more` are further lines of the spec. Its lock lies beside it, so nothing is resolved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DIGITS / "train.py", folder)
    shutil.copy(DIGITS / "sweep.lock", folder)
    spec = (DIGITS / "sweep.yaml").read_text()
    before, mark, rest = spec.partition("sweep:\n")
    after = rest.partition("\n\n")[2]
    assert mark and "epochs: 20" in before
    (folder / "sweep.yaml").write_text(
        f"{before.replace('epochs: 20', f'epochs: {epochs}')}{SPEC}\n{after.rstrip()}\n{more}"
    )
    rows = (f"{0.01 + 0.001 * (i // 2):.3f},{(8, 16)[i % 2]},{i}" for i in range(count))
    (folder / "points.csv").write_text("\n".join(["lr,hidden,seed", *rows, ""]))
    return folder / "sweep.yaml"
