"""A Containerfile to a base: built once by an engine, pinned by what came out, and never built for an old lock."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.errors import FetchError, Problem, ResolveError
from launcher.lock.containerfile import containerfile_digest
from launcher.lock.model import Artifact, Base, Lock
from launcher.progress import Progress
from launcher.resolve.base import Resolved, look_into, pin_base
from launcher.resolve.base.pull import Packed, check_layers
from launcher.resolve.upgrade import Upgrade
from launcher.resolve.workshop import Saved, Workshop
from launcher.spec.model import ImageSpec

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
COMPRESSED = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}  # RFC 1952, RFC 8878
RESTORE = (
    "what was executed can't be rebuilt, only restored: `launcher rebuild LOCK --from STORE` brings it back from the"
    " store whose vault has it (`launcher vault add`); `launcher lock --upgrade` builds another one"
)
NO_WORKSHOP = "`launcher lock` builds it"


def resolve_containerfile(
    image: ImageSpec,
    previous: Lock | None,
    upgrade: Upgrade,
    workshop: Workshop | None,
    *,
    cache: Cache,
    progress: Progress,
) -> Resolved:
    """Return the base that a spec's Containerfile gave; it is built when nobody has done that yet, or all is upgraded.

    What the lock before has stays as long as the Containerfile and what it copies stay.

    Raises SpecError (it can't be read), FetchError (it was built, and its layers are gone), ResolveError, TargetError.
    """
    file = image.containerfile
    assert file is not None
    digest = containerfile_digest(file)
    if previous and previous.base and not upgrade.all and same(previous, digest, image.platform):
        base = previous.base
        refuse_lost(base, cache)
        check_layers(base, cache, progress)
        return look_into(base, cache, image.python)
    saved = (None if upgrade.all else noted(digest, image.platform, cache)) or made(
        file, digest, image, workshop, cache
    )
    layers = [Packed(sha256=x.sha256, size=x.size, media_type=media_type(x, cache)) for x in saved.layers]
    base = pin_base("containerfile", saved.config.sha256, saved.config, layers, image.platform, cache, progress)
    return look_into(base, cache, image.python)


def media_type(layer: Artifact, cache: Cache) -> str:
    """Tell by its first bytes what a layer is: most engines save plain tars, those with containerd's store don't."""
    with cache.path("artifacts", layer.sha256).open("rb") as stream:
        head = stream.read(4)
    return LAYER_TYPE + next((word for magic, word in COMPRESSED.items() if head.startswith(magic)), "")


def same(previous: Lock, digest: str, platform: str) -> bool:
    return (previous.inputs.containerfile, previous.inputs.platform) == (digest, platform)


def refuse_lost(base: Base, cache: Cache) -> None:
    """Raise FetchError that names every blob of a base that the cache has no longer."""
    lost = [blob for blob in (base.config, *base.layers) if cache.find("artifacts", blob.sha256) is None]
    if lost:
        raise FetchError.of(
            Problem(
                message=f"{x.filename} of the Containerfile's image (sha256 {x.sha256}) isn't in the cache",
                hint=RESTORE,
            )
            for x in lost
        )


def made(file: Path, digest: str, image: ImageSpec, workshop: Workshop | None, cache: Cache) -> Saved:
    if workshop is None:
        raise ResolveError(f"the image of {file.name} has to be built first", hint=NO_WORKSHOP)
    saved = workshop.containerfile(file, image.platform)
    cache.write_note("containerfiles", key(digest, image.platform), asdict(saved))
    return saved


def noted(digest: str, platform: str, cache: Cache) -> Saved | None:
    """Return what a Containerfile gave on this machine before, if all of it is still in the cache."""
    note = cache.note("containerfiles", key(digest, platform))
    try:
        config, *layers = (Artifact(**x) for x in [note["config"], *note["layers"]])  # type: ignore[index]
    except (TypeError, KeyError):
        return None
    found = all(cache.find("artifacts", x.sha256) for x in (config, *layers))
    return Saved(config=config, layers=tuple(layers)) if found else None


def key(digest: str, platform: str) -> str:
    return sha256_bytes(canonical_json([digest, platform]))
