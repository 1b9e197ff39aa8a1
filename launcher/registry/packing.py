"""Layers as they travel: compressed once, kept in the cache, and known again by a note without being read.

A compressed copy is no part of an image's identity. It is the same on one machine for as long as its cache lives,
so that registries are sent it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from launcher.cache import Cache, write_all
from launcher.digest import CHUNK_BYTES
from launcher.errors import IntegrityError
from launcher.progress import Task
from launcher.registry.media import layer_type

Compression = Literal["auto", "gzip", "zstd", "none"]
NOTES = "packed"
GZIP_LEVEL = 2  # of ISA-L's 0 to 3
ZSTD_LEVEL = 3


class Layer(Protocol):
    """A layer that lies in the cache as a tar: `diff_id` is the tar's sha256, 64 hex digits, `size` its bytes."""

    @property
    def name(self) -> str: ...
    @property
    def diff_id(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A layer as it travels. `path` is None when only its digest and size are known, not its bytes."""

    digest: str
    size: int
    media_type: str
    path: Path | None


def chosen(compression: Compression) -> str:
    """Return what "auto" means: gzip, which every engine and registry reads; zstd needs Docker 23 or containerd 1.5."""
    return "gzip" if compression == "auto" else compression


def known(layer: Layer, compression: str, cache: Cache) -> Packed | None:
    """Return what is known of a layer's compressed copy without making it."""
    media_type = layer_type(compression)
    if compression == "none":
        return Packed(digest=layer.diff_id, size=layer.size, media_type=media_type, path=layer.path)
    note = cache.note(NOTES, f"{layer.diff_id}-{compression}")
    if not isinstance(note, dict) or note.keys() != {"digest", "size"}:
        return None
    path = cache.find("artifacts", note["digest"])
    return Packed(digest=note["digest"], size=note["size"], media_type=media_type, path=path)


def pack(layer: Layer, compression: str, cache: Cache, task: Task) -> Packed:
    """Compress a layer into the cache. Raises IntegrityError when it isn't what its digest says, DiskFullError."""
    key = f"{layer.diff_id}-{compression}"
    with cache.scratch() as scratch:
        part = scratch / key
        digest, size = compress(layer, compressor(compression, layer.size), part, task.advance)
        path = cache.adopt("artifacts", digest, part)
    cache.write_note(NOTES, key, {"digest": digest, "size": size})
    return Packed(digest=digest, size=size, media_type=layer_type(compression), path=path)


def compress(layer: Layer, squeeze: Any, out: Path, advance: Callable[[int], None]) -> tuple[str, int]:
    """Write a layer compressed; return the sha256 and size of what was written."""
    before, after, size = hashlib.sha256(), hashlib.sha256(), 0
    with layer.path.open("rb", buffering=0) as source, out.open("wb", buffering=0) as sink:
        while True:
            chunk = source.read(CHUNK_BYTES)
            before.update(chunk)
            data = squeeze.compress(chunk) if chunk else squeeze.flush()
            after.update(data)
            write_all(sink.fileno(), data)
            size += len(data)
            advance(len(chunk))
            if not chunk:
                break
    if before.hexdigest() != layer.diff_id:
        layer.path.unlink(missing_ok=True)
        raise IntegrityError(
            f"the layer {layer.name} was damaged in the cache after it was made",
            hint="it was removed; the same command again makes it anew",
        )
    return after.hexdigest(), size


def compressor(compression: str, size: int) -> Any:
    """Return a compressor that writes no time, no name and no machine into what it makes."""
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj(size=size)
    from isal import isal_zlib

    return isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + isal_zlib.MAX_WBITS)
