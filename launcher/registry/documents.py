"""Manifests and indexes as a registry gives them: read strictly, and the entry for a platform chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import FetchError, ImageError, Problem, ResolveError
from launcher.registry.media import COMPRESSIONS, CONFIGS, FOREIGN, INDEXES, MANIFESTS, SCHEMA1

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
NO_VARIANT = {"amd64": ("", "v1"), "arm64": ("", "v8")}  # what every such machine can run
OWN_BASE = "take another tag, or copy it to a registry of yours (`skopeo copy`), which makes it a common one"


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


def document(raw: bytes, name: str) -> dict[str, Any]:
    """Read a manifest or index as JSON. Raises FetchError."""
    try:
        told = json.loads(raw)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise FetchError(f"{name}: what the registry gave is no manifest", hint="is it a registry? check its name")
    return told


def kind(told: Mapping[str, Any], content_type: str, name: str) -> str:
    """Return "index" or "manifest". Raises ImageError for schema 1 and other things that registries hold."""
    stated = str(told.get("mediaType") or content_type.partition(";")[0].strip())
    if told.get("schemaVersion") == 1 or stated.startswith(SCHEMA1):
        raise ImageError(
            f"{name} has a manifest of schema 1, which names no layer by its own digest and was given up in 2017",
            hint="push the image again with a Docker of today, or take a newer tag",
        )
    if stated in INDEXES or isinstance(told.get("manifests"), list):
        return "index"
    if stated in MANIFESTS or ("config" in told and "layers" in told):
        return "manifest"
    raise ImageError(f"{name} is no image: its type is `{stated}`", hint=OWN_BASE)


def choose(told: Mapping[str, Any], platform: str, name: str) -> Descriptor:
    """Return an index's entry for a platform, such as "linux/arm64". Raises ResolveError that lists what there is."""
    entries = [entry for entry in told.get("manifests", []) if isinstance(entry, dict)]
    for variant in ("v8", *NO_VARIANT["amd64"]):
        for entry in entries:
            if matches(entry, platform, variant):
                return descriptor(entry, name, "manifests")
    there = sorted({shown_platform(entry) for entry in entries} - {"unknown/unknown"})
    raise ResolveError(
        f"{name} isn't there for {platform}: there is {', '.join(there) or 'nothing at all'}",
        hint="take another image, or set `image.platform` to one of these",
    )


def matches(entry: Mapping[str, Any], platform: str, variant: str) -> bool:
    has = entry.get("platform")
    if not isinstance(has, dict) or f"{has.get('os')}/{has.get('architecture')}" != platform:
        return False
    usable = NO_VARIANT.get(str(has.get("architecture")), ("",))
    return str(has.get("variant") or "") == variant and variant in usable


def shown_platform(entry: Mapping[str, Any]) -> str:
    has = entry.get("platform")
    words = [has.get("os"), has.get("architecture"), has.get("variant")] if isinstance(has, dict) else []
    return "/".join(str(word) for word in words if word) or "unknown/unknown"


def read_manifest(told: Mapping[str, Any], raw: bytes, digest: str, name: str) -> PulledManifest:
    """Read a manifest. Raises ImageError that names every layer which can't be used."""
    raw_layers = told.get("layers")
    if not isinstance(raw_layers, list) or not isinstance(told.get("config"), dict):
        raise ImageError(f"{name}: its manifest has no config and layers", hint=OWN_BASE)
    config = descriptor(told["config"], name, "config")
    layers = tuple(descriptor(entry, name, f"layers[{number}]") for number, entry in enumerate(raw_layers))
    problems = [Problem(message=f"{name}: {wrong}", hint=OWN_BASE) for layer in layers if (wrong := unusable(layer))]
    if config.media_type not in CONFIGS:
        problems.append(Problem(message=f"{name} is no container image: its config is `{config.media_type}`"))
    if problems:
        raise ImageError.of(problems)
    return PulledManifest(digest=digest, config=config, layers=layers, raw=raw)


def unusable(layer: Descriptor) -> str | None:
    if layer.media_type.startswith(FOREIGN):
        return f"the layer sha256:{layer.digest} may not be given on, and lies elsewhere: it can't be kept or pinned"
    if layer.media_type not in COMPRESSIONS:
        return f"the layer sha256:{layer.digest} is of an unknown kind, `{layer.media_type}`"
    return None


def descriptor(entry: object, name: str, key: str) -> Descriptor:
    """Read a descriptor. Raises ImageError when its digest is no sha256 or its size no number."""
    told = entry if isinstance(entry, dict) else {}
    digest, size = DIGEST.fullmatch(str(told.get("digest"))), told.get("size")
    if digest is None or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageError(f"{name}: `{key}` of its manifest has no sha256 digest and size", hint=OWN_BASE)
    return Descriptor(digest=digest[1], size=size, media_type=str(told.get("mediaType", "")))
