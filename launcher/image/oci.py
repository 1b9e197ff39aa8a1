"""The image as OCI documents: a config and a manifest that depend on nothing but the layers and the lock.

Source: OCI Image Format Specification 1.1, "Image Configuration" and "Image Manifest".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from launcher.digest import canonical_json, sha256_bytes
from launcher.lock.model import Lock

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CREATED = "1970-01-01T00:00:01Z"
VARIANTS = {"arm64": "v8"}
PATH = "/opt/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer as it lies in the cache: an uncompressed tar, so its digest is its diff_id (64 hex digits)."""

    rank: int
    name: str
    diff_id: str
    size: int
    listing: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Image:
    """An assembled image. `id` is the sha256 of `config`, 64 hex digits; `layers` are in stacking order."""

    id: str
    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...]

    @property
    def tag(self) -> str:
        """The name that an engine knows it by."""
        return f"launcher:{self.id[:12]}"

    @property
    def diff_ids(self) -> list[str]:
        return [f"sha256:{layer.diff_id}" for layer in self.layers]


def describe(lock: Lock, layers: Sequence[Layer]) -> Image:
    """Return the image that these layers make under this lock."""
    config = canonical_json(config_of(lock, layers))
    identity = sha256_bytes(config)
    manifest = canonical_json(manifest_of(config, identity, layers))
    return Image(id=identity, config=config, manifest=manifest, layers=tuple(layers))


def environment(lock: Lock) -> dict[str, str]:
    """Return the image's environment: ours first, the spec's over it."""
    own = {"PATH": PATH, "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1", "VIRTUAL_ENV": "/opt/env"}
    return {**own, **lock.env}


class Settings(TypedDict):
    """What a container of the image starts with, in the config's words ("Image Configuration", config)."""

    Cmd: list[str]
    Env: list[str]
    WorkingDir: str


def settings(lock: Lock) -> Settings:
    env = environment(lock)
    return {"Cmd": ["/bin/sh"], "Env": [f"{key}={env[key]}" for key in sorted(env)], "WorkingDir": "/workspace"}


def config_of(lock: Lock, layers: Sequence[Layer]) -> dict[str, object]:
    return {
        **platform(lock.architecture),
        "config": settings(lock),
        "created": CREATED,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
    }


def platform(architecture: str) -> dict[str, str]:
    """Return what a config says of its platform; arm64 has a variant ("Image Configuration", platform variants)."""
    variant = {"variant": VARIANTS[architecture]} if architecture in VARIANTS else {}
    return {"architecture": architecture, "os": "linux", **variant}


def manifest_of(config: bytes, identity: str, layers: Sequence[Layer]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": f"sha256:{identity}", "size": len(config)},
        "layers": [{"mediaType": LAYER_TYPE, "digest": f"sha256:{x.diff_id}", "size": x.size} for x in layers],
    }
