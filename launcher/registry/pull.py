"""Pull an image's manifest: the entry for the platform, checked by its digest, with what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.cache import Cache
from launcher.registry.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A blob that a manifest names. `digest` is its sha256, 64 hex digits; `size` is in bytes."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, kw_only=True)
class PulledManifest:
    """The manifest of one platform. `digest` is the sha256 of `raw`, 64 hex digits; the layers are lowest first."""

    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    raw: bytes


def manifest(reference: Reference, platform: str, cache: Cache) -> PulledManifest:
    """Return the manifest that a reference means today for a platform such as "linux/arm64".

    Manifests are kept in the cache as artifacts, so that a reference by digest asks nobody the second time.

    Raises FetchError when it can't be had, IntegrityError when it isn't what its digest says, ResolveError when
    the image isn't there for the platform, ImageError for one that can't be used (schema 1, foreign layers).
    """
    raise NotImplementedError
