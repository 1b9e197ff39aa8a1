"""The image: the environment and nothing else, assembled from a lock's artifacts without running anything."""

from launcher.image.building import build
from launcher.image.oci import Image, Layer

__all__ = ["Image", "Layer", "build"]
