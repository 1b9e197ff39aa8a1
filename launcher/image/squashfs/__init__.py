"""The image as one squashfs 4.0 file, written by hand, so that its bytes hang on no program of the machine."""

from launcher.image.squashfs.blocks import Compression
from launcher.image.squashfs.writer import write_squashfs

__all__ = ["Compression", "write_squashfs"]
