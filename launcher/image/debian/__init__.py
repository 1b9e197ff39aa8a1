"""Debian systems: .deb files to a file tree, with rules in place of maintainer scripts. Nothing is executed."""

from launcher.image.debian.tree import DebianTree, compose

__all__ = ["DebianTree", "compose"]
