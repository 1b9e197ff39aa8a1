"""The image as OCI documents: a config and a manifest that depend on nothing but the layers and the lock.

Source: OCI Image Format Specification 1.1, "Image Configuration" and "Image Manifest".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from launcher.digest import canonical_json, sha256_bytes
from launcher.image.nvidia import nvidia_variables

if TYPE_CHECKING:
    from launcher.lock.model import Lock

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CREATED = "1970-01-01T00:00:01Z"
VARIANTS = {"arm64": "v8"}
ENV_PROGRAMS = "/opt/env/bin"
FALLBACK_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATH = f"{ENV_PROGRAMS}:{FALLBACK_PATH}"
NOTHING: Mapping[str, str] = MappingProxyType({})


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


def describe(lock: Lock, layers: Sequence[Layer], base_env: Mapping[str, str] = NOTHING) -> Image:
    """Return the image that these layers make under this lock; `base_env` is what the config of its base sets."""
    config = canonical_json(config_of(lock, layers, base_env))
    identity = sha256_bytes(config)
    manifest = canonical_json(manifest_of(config, identity, layers))
    return Image(id=identity, config=config, manifest=manifest, layers=tuple(layers))


def environment(lock: Lock, base_env: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """Return the image's environment: a base's lowest, ours over it, the spec's over both."""
    if lock.base:
        return {**base_env, **own_on_base(lock, base_env), **nvidia_variables(lock.gpu, base_env), **lock.env}
    own = {"PATH": PATH, "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1", "VIRTUAL_ENV": "/opt/env"}
    return {**own, **nvidia_variables(lock.gpu), **lock.env}


def own_on_base(lock: Lock, base_env: Mapping[str, str]) -> dict[str, str]:
    """Return what we set over a base's variables: it knows its programs and its locale, we know /opt/env."""
    found = {"LANG": base_env.get("LANG", "C.UTF-8"), "PATH": base_env.get("PATH") or FALLBACK_PATH}
    if not lock.python:
        return found
    rest = [folder for folder in found["PATH"].split(":") if folder != ENV_PROGRAMS]
    found["PATH"] = ":".join([ENV_PROGRAMS, *rest])
    return {**found, "PYTHONNOUSERSITE": "1", "VIRTUAL_ENV": "/opt/env"}


class Settings(TypedDict):
    """What a container of the image starts with, in the config's words ("Image Configuration", config)."""

    Cmd: list[str]
    Env: list[str]
    WorkingDir: str


def settings(lock: Lock, base_env: Mapping[str, str] = NOTHING) -> Settings:
    env = environment(lock, base_env)
    return {"Cmd": ["/bin/sh"], "Env": [f"{key}={env[key]}" for key in sorted(env)], "WorkingDir": "/workspace"}


def config_of(lock: Lock, layers: Sequence[Layer], base_env: Mapping[str, str] = NOTHING) -> dict[str, object]:
    """Return the config. Its history is optional, but Buildah builds from no image that lacks it."""
    return {
        **platform(lock.architecture),
        "config": settings(lock, base_env),
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": f"launcher: {layer.name}"} for layer in layers],
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
