"""Base images made by hand: layers as tar bytes in any compression, with whatever foreign layers hold."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import zstandard

from launcher.digest import sha256_bytes
from launcher.image.base import BaseTree, read_tree

Content = bytes | str | None | tarfile.TarInfo
"""Bytes of a file, text of a symbolic link, None for a folder, or a ready entry."""


def layer(members: Mapping[str, Content], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an uncompressed layer. A name ending in `!` is a program."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as out:
        for name, content in members.items():
            out.addfile(*entry(name, content))
    return raw.getvalue()


def entry(name: str, content: Content) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    info = tarfile.TarInfo(name.removesuffix("!"))
    info.mtime, info.uid, info.mode = 1_000_000_000, 1000, 0o755 if name.endswith("!") else 0o644
    if isinstance(content, tarfile.TarInfo):
        return content, None
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(content, str):
        info.type, info.linkname = tarfile.SYMTYPE, content
    else:
        info.size = len(content)
        return info, io.BytesIO(content)
    return info, None


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    return info


def packed(data: bytes, how: str) -> bytes:
    """Return a layer as a registry would hold it: "gzip", "zstd" or "plain"."""
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    return zstandard.ZstdCompressor().compress(data) if how == "zstd" else data


def tree(folder: Path, *layers: Mapping[str, Content]) -> BaseTree:
    """Return the tree that these layers, lowest first, show together."""
    paths = []
    for members in layers:
        data = layer(members)
        path = folder / sha256_bytes(data)
        path.write_bytes(data)
        paths.append(path)
    return read_tree(paths)
