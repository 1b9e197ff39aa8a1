"""The code snapshot: the files of a working tree, checked and packed, known by one digest."""

from launcher.code.model import Code
from launcher.code.snapshot import snapshot

__all__ = ["Code", "snapshot"]
