"""What a base image says of CUDA: the variables of NVIDIA's images, and the packages that dpkg has installed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from launcher.digest import canonical_json, sha256_bytes
from launcher.image.base.tree import BaseTree
from launcher.image.tree import Content
from launcher.resolve.gpu.wheels import FRAMEWORKS, versions_in

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
    """What is known of a base before anything is put on it.

    `env` is its variables, `installed` its packages and `distributions` what its Python has, name to version.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)
    tree: BaseTree | None = None

    @classmethod
    def of(cls, env: Mapping[str, str], tree: BaseTree, distributions: Mapping[str, str]) -> BaseFacts:
        """Read the packages out of a base's own dpkg status; a base without one has none."""
        packages = dict(installed(tree.text(STATUS) or ""))
        return cls(env=env, installed=packages, distributions=distributions, tree=tree)


@dataclass(frozen=True, kw_only=True)
class Framework:
    """A framework that the base has: its files by their paths in its folder, and a key that changes with them."""

    name: str
    version: str
    key: str
    files: Mapping[str, Content]


def frameworks_in(base: BaseFacts, over: Collection[str]) -> list[Framework]:
    """Return the frameworks of a base's Python; those of `over` are put above it and hide the base's."""
    names = [name for name in FRAMEWORKS if name in base.distributions and name not in over]
    return [one for name in names if base.tree and (one := framework(base.tree, name, base.distributions[name]))]


def framework(tree: BaseTree, name: str, version: str) -> Framework | None:
    ends = tuple(f"/{site}/{FRAMEWORKS[name][0]}" for site in ("site-packages", "dist-packages"))
    place = next((path for path in sorted(tree.entries) if path.endswith(ends)), None)
    if place is None:
        return None
    site = place[: -len(FRAMEWORKS[name][0])]
    paths = [path for path, entry in tree.entries.items() if path.startswith(f"{site}{name}/") and entry.kind == "file"]
    files = {path[len(site) :]: tree.content(path) for path in sorted(paths)}
    where = [(path, one.file.name, one.offset) for path, one in files.items()]  # layers are files named by diff_id
    return Framework(name=name, version=version, key=sha256_bytes(canonical_json(where)), files=files)


def installed(status: str) -> Iterable[tuple[str, str]]:
    """Yield the packages of a dpkg status that are installed (deb822(5), dpkg-query(1))."""
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            yield fields["Package"], fields.get("Version", "")


def versions_of(base: BaseFacts) -> dict[str, str]:
    """Return what a base has of cuda, cudart, cudnn and nccl, as upstream's versions. Its Python's before
    its packages, those before its variables."""
    told = {key: base.env.get(name, "") for key, names in VARIABLES.items() for name in reversed(names)}
    told |= {key: base.env[name] for key, names in VARIABLES.items() for name in names[:1] if base.env.get(name)}
    for name, version in sorted(base.installed.items()):
        told |= {key: version for key, pattern in PACKAGES.items() if pattern.fullmatch(name)}
    told |= dict(versions_in(base.distributions.items()))
    return {key: upstream[0] for key, version in told.items() if (upstream := UPSTREAM.match(version))}
