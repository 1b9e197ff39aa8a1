"""The layers of a base: out of their compression once, checked by digest and size, then used as they are."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from launcher.cache import Cache, write_all
from launcher.digest import canonical_json, sha256_bytes
from launcher.errors import ImageError, IntegrityError
from launcher.image.base.rows import Row, plain, rows_of
from launcher.image.base.tree import BaseTree, read_tree
from launcher.image.inflate import InflateError
from launcher.image.oci import Layer
from launcher.image.tar import Hashing
from launcher.lock.model import Base, Blob
from launcher.progress import SILENT, Progress, Task

READ_BYTES = 1 << 20
NOTES = "unpacked-blobs"
LOWEST_RANK = -1000
"""A base's layers lie below all of ours, and no base has as many as this."""

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SKIPPABLE = tuple(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))  # zstd frames that hold no data (RFC 8878)


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What a blob holds: the sha256 of its tar (64 hex digits), and that tar's size in bytes."""

    diff_id: str
    size: int


def unpack_blob(blob: Path, sha256: str, cache: Cache, task: Task | None = None) -> Unpacked:
    """Put what a layer's blob holds into the cache's blobs, once; say what it is.

    The first bytes tell how it is compressed: a manifest's media type may lie. Raises ImageError when it is damaged.
    """
    noted = cache.note(NOTES, sha256)
    if isinstance(noted, list) and cache.find("blobs", str(noted[0])):
        return Unpacked(diff_id=str(noted[0]), size=int(noted[1]))
    with cache.scratch() as scratch:
        part = scratch / "layer"
        found = write_unpacked(blob, part, task)
        cache.adopt("blobs", found.diff_id, part)
    cache.write_note(NOTES, sha256, [found.diff_id, found.size])
    return found


def write_unpacked(blob: Path, part: Path, task: Task | None) -> Unpacked:
    size = 0
    with part.open("wb", buffering=0) as out, Hashing() as hashing:
        for piece in inflated(blob):
            hashing.put(piece)
            write_all(out.fileno(), piece)
            size += len(piece)
            if task:
                task.advance(len(piece))
    return Unpacked(diff_id=hashing.digest.hexdigest(), size=size)


def inflated(blob: Path) -> Iterator[bytes]:
    """Yield what a gzip, zstd or plain file holds. Raises ImageError when it is damaged."""
    import zstandard

    try:
        with blob.open("rb") as raw, opened(raw) as stream:
            while piece := stream.read(READ_BYTES):
                yield piece
    except (zstandard.ZstdError, InflateError, gzip.BadGzipFile, EOFError) as e:
        raise ImageError(f"the base's layer {blob.name[:12]} can't be decompressed: {e}") from e


def opened(raw: IO[bytes]) -> IO[bytes]:
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(GZIP):
        from isal import igzip

        return cast(IO[bytes], igzip.GzipFile(fileobj=raw, mode="rb"))  # type: ignore[no-untyped-call]
    if head == ZSTD or head in SKIPPABLE:
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return cast(IO[bytes], reader.stream_reader(raw, read_across_frames=True, closefd=False))
    return raw


def base_layers(base: Base, blobs: Mapping[str, Path], cache: Cache, progress: Progress = SILENT) -> list[Layer]:
    """Return a base's layers, lowest first, as they lie in the cache's blobs; `blobs` are its artifacts by sha256.

    Raises IntegrityError when a blob doesn't hold what the lock says.
    """
    left = [blob for blob in base.layers if cache.find("blobs", blob.diff_id) is None]
    with progress.task("unpack the base", sum(blob.unpacked for blob in left)) as task:
        for blob in left:
            check(blob, unpack_blob(blobs[blob.sha256], blob.sha256, cache, task))
    return [described(number, base, blob, cache) for number, blob in enumerate(base.layers)]


def check(blob: Blob, found: Unpacked) -> None:
    if (found.diff_id, found.size) != (blob.diff_id, blob.unpacked):
        raise IntegrityError(
            f"the base's {blob.filename} holds a tar of {found.size} bytes with sha256 {found.diff_id}, and"
            f" {blob.unpacked} bytes with sha256 {blob.diff_id} were expected",
            hint="don't use this base; tell whoever keeps it, or take another tag",
        )


def described(number: int, base: Base, blob: Blob, cache: Cache) -> Layer:
    path = cache.path("blobs", blob.diff_id)
    listing = listing_of(path, blob.diff_id, cache)
    rank, name = LOWEST_RANK + number, f"base layer {number + 1} of {len(base.layers)}"
    return Layer(rank=rank, name=name, diff_id=blob.diff_id, size=blob.unpacked, listing=listing, path=path)


def listing_of(path: Path, diff_id: str, cache: Cache) -> str:
    """Return the sha256 of a layer's list of files, kept as an artifact; contents have no checksum in it."""
    noted = cache.note("layer-listings", diff_id)
    if isinstance(noted, str) and cache.find("artifacts", noted):
        return noted
    listing = b"".join(canonical_json(listed(row)) + b"\n" for row in rows_of(path, cache, diff_id))
    sha256 = sha256_bytes(listing)
    with cache.scratch() as scratch:
        (scratch / "listing").write_bytes(listing)
        cache.adopt("artifacts", sha256, scratch / "listing")
    cache.write_note("layer-listings", diff_id, sha256)
    return sha256


def listed(row: Row) -> tuple[str, str, int, int, int, str]:
    kind, path, mode, size, _, target = row
    return (plain(path), kind, mode, size, 0, plain(target))


def base_tree(base: Base, cache: Cache) -> BaseTree:
    """Return the files of a base whose layers are in the cache's blobs."""
    return tree_of(cache.root, tuple(blob.diff_id for blob in base.layers))


@lru_cache(maxsize=1)  # a lock asks for it three times, and a big base has hundreds of thousands of files
def tree_of(root: Path, diff_ids: tuple[str, ...]) -> BaseTree:
    cache = Cache(root)
    return read_tree([cache.path("blobs", diff_id) for diff_id in diff_ids], cache, diff_ids)
