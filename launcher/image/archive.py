"""The image as one archive: an OCI layout that `docker load` of any age reads too.

Source: OCI Image Format Specification 1.1, "Image Layout"; `manifest.json` is moby's image specification v1.2.
"""

from __future__ import annotations

from launcher.digest import canonical_json, sha256_bytes
from launcher.image.oci import MANIFEST_TYPE, Image
from launcher.image.tree import Bytes, Content, Entry, Slice


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
