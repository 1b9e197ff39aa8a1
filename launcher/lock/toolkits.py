"""Reads NVIDIA's table of toolkits, drivers and compute capabilities, which ships with launcher."""

from __future__ import annotations

import functools

from launcher.data import data_path
from launcher.errors import LauncherError
from launcher.gpu.table import Toolkits
from launcher.toml import parse


@functools.cache
def toolkits() -> Toolkits:
    """Return the table of images/cuda.toml."""
    path = data_path("images", "cuda.toml")
    return Toolkits.of(parse(path.read_text(encoding="utf-8"), path.name, LauncherError))
