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
    debs = sorted((deb.sha256, deb.group) for deb in lock.debs)
    return key_of("debian", debs, rules_digest(), *([diff_ids(lock)] if lock.base else []))


def image_key(lock: Lock, settings: object) -> str:
    """Return the key of all layers of a lock's image; `settings` are those of its config."""
    python = [lock.python, lock.interpreter]
    return key_of("image", debian_key(lock), sorted(a.sha256 for a in lock.wheels), python, diff_ids(lock), settings)


def diff_ids(lock: Lock) -> list[str]:
    """Return the diff_ids of a lock's base, lowest layer first; none without one."""
    return [blob.diff_id for blob in lock.base.layers] if lock.base else []


@cache
def rules_digest() -> str:
    """Return the digest of the data that the rules for Debian packages work from."""
    return sha256_bytes(b"".join(data_path("images", name).read_bytes() for name in RULES))
