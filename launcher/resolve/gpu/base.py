"""What a base image says of CUDA: the variables of NVIDIA's images, and the packages that dpkg has installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from launcher.image.base.tree import BaseTree

VARIABLES = {
    "cuda": ("CUDA_VERSION",),
    "cudart": ("NV_CUDA_CUDART_VERSION", "CUDA_CUDART_VERSION"),
    "cudnn": ("NV_CUDNN_VERSION", "CUDNN_VERSION"),
    "nccl": ("NV_LIBNCCL_PACKAGE_VERSION", "NCCL_VERSION"),
}
"""Names in the images of NVIDIA's container-images/cuda (NV_*) and of NGC's frameworks (without)."""
PACKAGES = {
    "cudart": re.compile(r"cuda-cudart-\d+-\d+"),
    "cudnn": re.compile(r"libcudnn\d+(-cuda-\d+)?"),
    "nccl": re.compile(r"libnccl2"),
}
UPSTREAM = re.compile(r"\d+(?:\.\d+)*")
STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True, kw_only=True)
class BaseFacts:
    """What is known of a base before anything is put on it: its variables, and its packages with their versions."""

    env: Mapping[str, str] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, env: Mapping[str, str], tree: BaseTree) -> BaseFacts:
        """Read the packages out of a base's own dpkg status; a base without one has none."""
        entry = tree.find(STATUS)
        status = tree.read(STATUS).decode("utf-8", "replace") if entry and entry.kind == "file" else ""
        return cls(env=env, installed=dict(installed(status)))


def installed(status: str) -> Iterable[tuple[str, str]]:
    """Yield the packages of a dpkg status that are installed (deb822(5), dpkg-query(1))."""
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            yield fields["Package"], fields.get("Version", "")


def versions_of(base: BaseFacts) -> dict[str, str]:
    """Return what a base has of cuda, cudart, cudnn and nccl, as upstream's versions. Packages before variables."""
    told = {key: base.env.get(name, "") for key, names in VARIABLES.items() for name in reversed(names)}
    told |= {key: base.env[name] for key, names in VARIABLES.items() for name in names[:1] if base.env.get(name)}
    for name, version in sorted(base.installed.items()):
        told |= {key: version for key, pattern in PACKAGES.items() if pattern.fullmatch(name)}
    return {key: upstream[0] for key, version in told.items() if (upstream := UPSTREAM.match(version))}
