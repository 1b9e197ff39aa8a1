"""Cache keys: the same key means the same bytes."""

from __future__ import annotations

from launcher.digest import canonical_json, sha256_bytes
from launcher.lock.model import Lock

ASSEMBLER = 1
"""Raised whenever the same lock would give other bytes than before; part of every key."""


def key_of(*parts: object) -> str:
    """Return a cache key for what this assembler makes of `parts` (JSON values)."""
    return sha256_bytes(canonical_json([ASSEMBLER, *parts]))


def debian_key(lock: Lock) -> str:
    """Return the key of a lock's Debian layers; the group of a package decides where the layers are cut."""
    return key_of("debian", sorted((deb.sha256, deb.group) for deb in lock.debs))
