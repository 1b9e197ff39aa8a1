"""What an image needs of GPUs, what a node has, and whether the two fit: values, and the standard library alone."""

from __future__ import annotations

import os

SIGNS = (
    "proc/driver/nvidia/version",
    "dev/nvidiactl",
    "dev/nvidia0",
    "dev/dxg",
    "dev/nvmap",
)  # dxg: WSL; nvmap: Jetson


def has_driver(root: str = "/") -> bool:
    """Tell whether there is any sign of a driver for GPUs. It costs microseconds, and no import worth the name."""
    return any(os.path.lexists(os.path.join(root, sign)) for sign in SIGNS)
