"""Cache keys: the same key means the same bytes."""

from __future__ import annotations

from functools import cache

from launcher.data import data_path
from launcher.digest import canonical_json, sha256_bytes
from launcher.lock.model import Lock

ASSEMBLER = 2
"""Raised whenever the code makes other bytes of the same lock than before; part of every key."""

RULES = ("debian-rules.toml", "graphviz-plugins.toml")


def key_of(*parts: object) -> str:
    """Return a cache key for what this assembler makes of `parts` (JSON values)."""
    return sha256_bytes(canonical_json([ASSEMBLER, *parts]))


def debian_key(lock: Lock) -> str:
    """Return the key of a lock's Debian layers; the group of a package decides where the layers are cut."""
    return key_of("debian", sorted((deb.sha256, deb.group) for deb in lock.debs), rules_digest())


@cache
def rules_digest() -> str:
    """Return the digest of the data that the rules for Debian packages work from."""
    return sha256_bytes(b"".join(data_path("images", name).read_bytes() for name in RULES))
