"""The image as OCI documents: a config and a manifest that depend on nothing but the layers and the lock.

Source: OCI Image Format Specification 1.1, "Image Configuration", "Image Manifest", "Image Layout"; the extra
`manifest.json` is what `docker load` of any age reads (moby, image/spec, v1.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.digest import canonical_json, sha256_bytes
from launcher.image.tar import layer_chunks
from launcher.image.tree import Bytes, Content, Entry, Slice
from launcher.lock.model import Lock

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CREATED = "1970-01-01T00:00:01Z"
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


def config_of(lock: Lock, layers: Sequence[Layer]) -> dict[str, object]:
    env = environment(lock)
    return {
        "architecture": lock.architecture,
        "config": {"Cmd": ["/bin/sh"], "Env": [f"{key}={env[key]}" for key in sorted(env)], "WorkingDir": "/workspace"},
        "created": CREATED,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
    }


def manifest_of(config: bytes, identity: str, layers: Sequence[Layer]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": f"sha256:{identity}", "size": len(config)},
        "layers": [{"mediaType": LAYER_TYPE, "digest": f"sha256:{x.diff_id}", "size": x.size} for x in layers],
    }


def index_of(image: Image) -> bytes:
    """Return the layout's index; the tag is named the way `skopeo` and `umoci` (OCI) and containerd look for it."""
    entry = {
        "mediaType": MANIFEST_TYPE,
        "digest": f"sha256:{sha256_bytes(image.manifest)}",
        "size": len(image.manifest),
        "annotations": {
            "io.containerd.image.name": f"docker.io/library/{image.tag}",
            "org.opencontainers.image.ref.name": image.id[:12],
        },
    }
    return canonical_json({"schemaVersion": 2, "manifests": [entry]})


def docker_manifest(image: Image) -> bytes:
    layers = [f"blobs/sha256/{layer.diff_id}" for layer in image.layers]
    return canonical_json([{"Config": f"blobs/sha256/{image.id}", "RepoTags": [image.tag], "Layers": layers}])


def archive_entries(image: Image) -> list[Entry]:
    """Return the files of an OCI layout that `docker load` reads too."""
    blobs: dict[str, Content] = {
        image.id: Bytes(image.config),
        sha256_bytes(image.manifest): Bytes(image.manifest),
        **{layer.diff_id: Slice(layer.path, 0, layer.size) for layer in image.layers},
    }
    return [
        Entry("blobs", "dir"),
        Entry("blobs/sha256", "dir"),
        *(Entry(f"blobs/sha256/{digest}", "file", 0o644, blobs[digest]) for digest in sorted(blobs)),
        Entry("index.json", "file", 0o644, Bytes(index_of(image))),
        Entry("manifest.json", "file", 0o644, Bytes(docker_manifest(image))),
        Entry("oci-layout", "file", 0o644, Bytes(canonical_json({"imageLayoutVersion": "1.0.0"}))),
    ]


def archive_chunks(image: Image) -> Iterator[bytes]:
    """Yield the bytes of the archive: the same image gives the same archive."""
    return layer_chunks(archive_entries(image))
