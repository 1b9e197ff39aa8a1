"""The image of a lock: as it is kept in the cache, or assembled."""

from __future__ import annotations

import os

from launcher.cache import Cache
from launcher.errors import FetchError
from launcher.image.kept import note_layers, noted_layers
from launcher.image.keys import image_key
from launcher.image.oci import Image, describe, settings
from launcher.lock.model import Lock
from launcher.progress import SILENT, Progress

WORKERS = max(2, os.cpu_count() or 2)


def build(lock: Lock, cache: Cache, *, workers: int = WORKERS, progress: Progress = SILENT) -> Image:
    """Return the image of a lock whose artifacts are in the cache.

    Raises FetchError when one isn't, ImageError when one can't be unpacked or two of them disagree,
    DiskFullError when the cache has no room. The result doesn't depend on `workers`.
    """
    base_env = base_environment(lock, cache)
    key = image_key(lock, settings(lock, base_env))
    layers = noted_layers(cache, key)
    if layers is None:
        from launcher.image.assemble import assemble  # what unpacks archives is loaded when something has to be

        layers = assemble(lock, cache, workers, progress, base_env)
        note_layers(cache, key, layers)
    return describe(lock, layers, base_env)


def base_environment(lock: Lock, cache: Cache) -> dict[str, str]:
    """Return what the config of a lock's base sets. Raises FetchError when the cache lacks it."""
    if lock.base is None:
        return {}
    from launcher.image.base.config import read_config

    if path := cache.find("artifacts", lock.base.config.sha256):
        return read_config(path).env
    raise FetchError(f"the base's config (sha256 {lock.base.config.sha256}) isn't in the cache")
