"""Debian packages for an image: signed indexes in, a pinned set of .debs out."""

from launcher.resolve.debian.resolve import DebianSet, resolve_debian

__all__ = ["DebianSet", "resolve_debian"]
