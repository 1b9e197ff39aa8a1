"""Digests and canonical bytes: what everything else is known by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
SHA256 = re.compile(r"[0-9a-f]{64}")


def sha256_bytes(data: bytes) -> str:
    """Return the lower-case hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_stream(stream: BinaryIO) -> tuple[str, int]:
    """Read `stream` to its end; return (hex sha256, size in bytes)."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def sha256_file(path: Path) -> tuple[str, int]:
    """Return (hex sha256, size in bytes) of a file."""
    with path.open("rb") as stream:
        return sha256_stream(stream)


def canonical_json(value: object) -> bytes:
    """Serialise to JSON with sorted keys, no spaces, UTF-8: the same value gives the same bytes."""
    return canonical_text(value).encode()


def canonical_text(value: object) -> str:
    return CANONICAL.encode(value)


def tree_digest(entries: Iterable[tuple[str, str, str]]) -> str:
    """Digest a file tree from (path, kind-and-mode, content digest or link target), whatever their order.

    Names are what Linux takes them for, bytes: those that are no UTF-8 count as they are (PEP 383).
    """
    return sha256_bytes(canonical_text(sorted(entries)).encode("utf-8", "surrogateescape"))
