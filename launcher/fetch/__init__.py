"""Bring artifacts into the cache, from wherever they are to be had, believing nobody about their bytes."""

from launcher.fetch.download import fetch, fill_sizes
from launcher.fetch.places import base_sources, default_sources

__all__ = ["base_sources", "default_sources", "fetch", "fill_sizes"]
