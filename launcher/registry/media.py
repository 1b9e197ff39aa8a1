"""Media types of images, OCI's and Docker's, and what they mean.

Sources: OCI Image Format Specification 1.1, "Media Types" and its "Compatibility Matrix"; distribution's
"Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
ACCEPTED = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))

COMPRESSIONS = {
    OCI_LAYER: "none",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    DOCKER_LAYER: "none",
    f"{DOCKER_LAYER}.gzip": "gzip",
    f"{DOCKER_LAYER}.zstd": "zstd",
}
"""What a layer's type says of its compression."""

FOREIGN = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")


def layer_type(compression: str) -> str:
    """Return OCI's type of a layer whose tar is compressed by "gzip", "zstd" or "none"."""
    return OCI_LAYER if compression == "none" else f"{OCI_LAYER}+{compression}"
