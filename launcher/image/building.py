"""The image of a lock: as it is kept in the cache, or assembled."""

from __future__ import annotations

import os

from launcher.cache import Cache
from launcher.image.kept import note_layers, noted_layers
from launcher.image.keys import debian_key, key_of
from launcher.image.oci import Image, describe, settings
from launcher.lock.model import Lock
from launcher.progress import SILENT, Progress

WORKERS = max(2, os.cpu_count() or 2)


def build(lock: Lock, cache: Cache, *, workers: int = WORKERS, progress: Progress = SILENT) -> Image:
    """Return the image of a lock whose artifacts are in the cache.

    Raises FetchError when one isn't, ImageError when one can't be unpacked or two of them disagree,
    DiskFullError when the cache has no room. The result doesn't depend on `workers`.
    """
    wheels = sorted(wheel.sha256 for wheel in lock.wheels)
    key = key_of("image", debian_key(lock), wheels, lock.python, settings(lock))
    layers = noted_layers(cache, key)
    if layers is None:
        from launcher.image.assemble import assemble  # what unpacks archives is loaded when something has to be

        layers = assemble(lock, cache, workers, progress)
        note_layers(cache, key, layers)
    return describe(lock, layers)
