"""The image: the environment and nothing else, assembled from a lock's artifacts without running anything.

What assembles is loaded at its first use: a node that only runs images imports this room, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launcher.image.oci import Image, Layer

if TYPE_CHECKING:
    from launcher.image.building import build

__all__ = ["Image", "Layer", "build"]


def __getattr__(name: str) -> Any:
    if name != "build":
        raise AttributeError(name)
    from launcher.image import building

    return building.build
