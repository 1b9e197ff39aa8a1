"""Debian binary packages, read as deb(5) describes them: nothing is executed and nothing is trusted."""

from launcher.image.deb.unpack import Package, unpack

__all__ = ["Package", "unpack"]
