"""Debian packages for an image: signed indexes in, a pinned set of .debs out."""

from launcher.resolve.debian.on_base import Added, resolve_on_base
from launcher.resolve.debian.resolve import DebianSet, resolve_debian

__all__ = ["Added", "DebianSet", "resolve_debian", "resolve_on_base"]
