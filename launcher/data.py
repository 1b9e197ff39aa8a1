"""Where the facts that ship with launcher lie: `images/` and `slurm/`, in a wheel and in a checkout."""

from __future__ import annotations

import importlib.resources
from pathlib import Path


def data_path(*parts: str) -> Path:
    """Return the path of a shipped data file or folder, such as `data_path("images", "debian.toml")`."""
    package = Path(str(importlib.resources.files("launcher")))
    shipped = package / "_data"
    return (shipped if shipped.is_dir() else package.parent).joinpath(*parts)
