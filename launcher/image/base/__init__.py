"""An image of somebody else to start from: its layers as they are, and its files as one tree."""

from launcher.image.base.tree import BaseEntry, BaseTree, read_tree

__all__ = ["BaseEntry", "BaseTree", "read_tree"]
