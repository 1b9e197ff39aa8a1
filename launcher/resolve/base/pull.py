"""The name of a base to its bytes: pulled into the cache, each blob checked against all that is said of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.cache import Cache
from launcher.errors import ImageError, IntegrityError, Problem, ResolveError
from launcher.fetch import fetch
from launcher.image.base.config import BaseConfig, read_config
from launcher.image.base.layers import unpack_blob
from launcher.indexes.source import Source
from launcher.lock.model import Artifact, Base, Blob, Lock
from launcher.progress import SILENT, Progress
from launcher.registry.pull import manifest
from launcher.registry.reference import Reference, parse
from launcher.registry.source import RegistrySource
from launcher.resolve.base.facts import Resolved, look_into
from launcher.resolve.upgrade import KEEP, Upgrade

Kind = Literal["registry", "containerfile"]
NO_SYSTEM = "unknown"
AT_ONCE = max(1, (os.cpu_count() or 2) // 2)  # each layer keeps two cores busy: one inflates, one hashes
MOST_LAYERS = 120
"""A base with more leaves no room for ours: engines bear 125 in all."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A layer as its manifest lists it. `sha256` is of the blob, `size` is in bytes."""

    sha256: str
    size: int
    media_type: str


def resolve_base(
    reference: str,
    platform: str,
    previous: Lock | None = None,
    upgrade: Upgrade = KEEP,
    *,
    cache: Cache,
    python: str | None = None,
    progress: Progress = SILENT,
) -> Resolved:
    """Pin the image that `docker://HOST/NAME[:TAG][@sha256:...]` means for a platform, and look into it.

    What the lock before has pinned for the same words stays, wherever its tag points by now, unless all is upgraded.

    Raises ResolveError (no such platform, nothing that can be built upon), FetchError, IntegrityError, ImageError.
    """
    name = parse(reference)
    if previous and previous.base and kept(previous, reference, platform, upgrade):
        base = previous.base
        fetch_blobs((base.config, *base.layers), name, cache, progress)
        check_layers(base, cache, progress)
    else:
        base = pull(name, platform, cache, progress)
    return look_into(base, cache, python)


def kept(previous: Lock, reference: str, platform: str, upgrade: Upgrade) -> bool:
    same = (previous.inputs.base, previous.inputs.platform) == (reference, platform)
    return same and not upgrade.all


def pull(name: Reference, platform: str, cache: Cache, progress: Progress) -> Base:
    """Bring the image that a name means today into the cache."""
    found = manifest(name, platform, cache)
    version = name.tag or found.digest[:12]
    config = artifact(name.name, version, "config.json", found.config.digest, found.config.size)
    layers = [Packed(sha256=x.digest, size=x.size, media_type=x.media_type) for x in found.layers]
    blobs = [
        artifact(name.name, version, f"layer-{number}", layer.sha256, layer.size)
        for number, layer in enumerate(layers, 1)
    ]
    fetch_blobs((config, *blobs), name, cache, progress)
    return pin_base("registry", found.digest, config, layers, platform, cache, progress)


def fetch_blobs(artifacts: Sequence[Artifact], name: Reference, cache: Cache, progress: Progress) -> None:
    sources: list[Source] = [RegistrySource(name, only=[each.sha256 for each in artifacts])]
    fetch(artifacts, cache, sources, progress)


def artifact(name: str, version: str, part: str, sha256: str, size: int) -> Artifact:
    filename = f"{name.rpartition('/')[2]}-{part}"
    return Artifact(name=name, version=version, filename=filename, size=size, sha256=sha256)


def pin_base(
    kind: Kind,
    manifest_sha256: str,
    config: Artifact,
    layers: Sequence[Packed],
    platform: str,
    cache: Cache,
    progress: Progress = SILENT,
) -> Base:
    """Say in a lock's words what an image is whose config and blobs are in the cache as artifacts.

    Every layer is taken out of its compression, and held against the config. Raises IntegrityError where they differ,
    ResolveError for another platform or no layers, ImageError for what is no image.
    """
    told = read_config(artifact_path(config.sha256, cache))
    refuse_platform(told, platform, config.name)
    if len(layers) != len(told.diff_ids):
        raise IntegrityError(f"{config.name}: {len(layers)} layers, and its config names {len(told.diff_ids)}")
    if not 0 < len(layers) <= MOST_LAYERS:
        raise ResolveError(
            f"{config.name} has {len(layers)} layers, and a base may have 1 to {MOST_LAYERS}",
            hint="squash it, or take another base",
        )
    with progress.task("unpack the base", None) as task, ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda x: unpack_blob(artifact_path(x.sha256, cache), x.sha256, cache, task), layers)
        blobs = [
            blob(config, number, layer, unpacked.diff_id, unpacked.size)
            for number, (layer, unpacked) in enumerate(zip(layers, found, strict=True), 1)
        ]
    refuse_other_layers(config.name, blobs, told)
    base = Base(kind=kind, manifest=manifest_sha256, system=NO_SYSTEM, config=config, layers=tuple(blobs))
    return with_system(base, cache)


def with_system(base: Base, cache: Cache) -> Base:
    from dataclasses import replace

    from launcher.image.base.layers import base_tree
    from launcher.resolve.base.system import os_release

    return replace(base, system=os_release(base_tree(base, cache)).get("ID", "linux"))


def blob(config: Artifact, number: int, layer: Packed, diff_id: str, unpacked: int) -> Blob:
    return Blob(
        name=config.name,
        version=config.version,
        filename=f"{config.name.rpartition('/')[2]}-layer-{number}{suffix(layer.media_type)}",
        size=layer.size,
        sha256=layer.sha256,
        media_type=layer.media_type,
        diff_id=diff_id,
        unpacked=unpacked,
    )


def suffix(media_type: str) -> str:
    for word, ending in (("gzip", ".tar.gz"), ("zstd", ".tar.zst")):
        if media_type.endswith(word):
            return ending
    return ".tar"


def artifact_path(sha256: str, cache: Cache) -> Path:
    path = cache.find("artifacts", sha256)
    if path is None:
        raise ImageError(f"the blob sha256:{sha256} of the base isn't in the cache")
    return path


def refuse_platform(told: BaseConfig, platform: str, name: str) -> None:
    """Believe the config, not the index that led to it."""
    if f"{told.os}/{told.architecture}" != platform:
        raise ResolveError(
            f"{name} is an image for {told.os}/{told.architecture}, and {platform} is wanted",
            hint="set image.platform, or name an image that is built for it",
        )


def refuse_other_layers(name: str, blobs: Sequence[Blob], told: BaseConfig) -> None:
    problems = [
        Problem(
            message=f"{name}: layer {number} (blob sha256:{each.sha256}) holds sha256:{each.diff_id},"
            f" and the image's config says sha256:{expected}",
            hint="don't use this image; tell whoever keeps it",
        )
        for number, (each, expected) in enumerate(zip(blobs, told.diff_ids, strict=True), 1)
        if each.diff_id != expected
    ]
    if problems:
        raise IntegrityError.of(problems)


def check_layers(base: Base, cache: Cache, progress: Progress) -> None:
    """See that the layers of a locked base hold what the lock says, and that they are unpacked."""
    from launcher.image.base.layers import base_layers

    base_layers(base, {each.sha256: artifact_path(each.sha256, cache) for each in base.layers}, cache, progress)
