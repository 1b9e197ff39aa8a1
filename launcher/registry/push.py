"""Put an image into a registry: what it lacks, blob by blob, then the manifest under its tag, last.

Source: OCI Distribution Specification 1.1, "Push". The config goes byte for byte, so that an image that is pulled
again has the id that its lock says. Layers of a base go as its own registry gave them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.errors import TargetError, UsageError
from launcher.lock.model import Base
from launcher.progress import SILENT, Progress, SilentTask, Task
from launcher.registry.media import COMPRESSIONS, OCI_CONFIG, OCI_MANIFEST, layer_type
from launcher.registry.packing import Compression, Layer, Packed, chosen, known, pack
from launcher.registry.reference import Reference
from launcher.registry.session import Session
from launcher.registry.settings import registry_settings
from launcher.registry.upload import Blob, Upload, present

WORKERS = 4
Fate = Literal["sent", "present", "mounted"]


class Image(Protocol):
    """An image: its id (sha256 of `config`), and its layers, lowest first."""

    @property
    def id(self) -> str: ...
    @property
    def config(self) -> bytes: ...
    @property
    def layers(self) -> Sequence[Layer]: ...


@dataclass(frozen=True, kw_only=True)
class PushedBlob:
    """What became of one blob. `size` is its own in bytes; `moved` is what went out for it, second tries included."""

    name: str
    digest: str
    size: int
    fate: Fate
    moved: int = 0


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did. `digest` is the manifest's sha256, 64 hex digits; bytes are those of blobs and manifest."""

    reference: str
    digest: str
    blobs: tuple[PushedBlob, ...]
    manifest_sent: bool

    @property
    def sent_bytes(self) -> int:
        return sum(blob.moved for blob in self.blobs)

    @property
    def skipped_bytes(self) -> int:
        return sum(blob.size for blob in self.blobs if blob.fate != "sent")


def check_target(reference: Reference) -> None:
    """Raise UsageError for a name that nothing can be pushed to: better before an image is made than after."""
    if reference.digest:
        raise UsageError(f"{reference} names a digest, and what is pushed gets its own", hint="name a tag instead")


def push(
    image: Image,
    reference: Reference,
    cache: Cache,
    *,
    base: Base | None = None,
    base_reference: Reference | None = None,
    compression: Compression = "auto",
    progress: Progress = SILENT,
    workers: int = WORKERS,
    environ: Mapping[str, str] = os.environ,
) -> Pushed:
    """Send an image's missing blobs to a registry, several at once, and its manifest last.

    `base` tells which layers exist as compressed blobs already; from `base_reference` in the same registry they are
    mounted, not sent. Raises UsageError for a digest, TargetError when the registry can't be reached or refuses,
    IntegrityError when a layer was damaged in the cache, DiskFullError when there is no room to compress.
    """
    check_target(reference)
    place = registry_settings(environ).places(reference, mirrors=False)[-1]
    mounting = base_reference if base_reference and base_reference.host == reference.host else None
    session = Session(place, scopes=scopes(place.reference, mounting), error=TargetError, environ=environ)
    work = Work(session, cache, chosen(compression), base, mounting.name if mounting else None)
    return work.push(image, progress, workers)


def scopes(reference: Reference, mounting: Reference | None) -> tuple[str, ...]:
    """Return what a token has to allow ("Token Scope Documentation")."""
    own = f"repository:{reference.name}:pull,push"
    other = mounting and mounting.name != reference.name
    return (own, f"repository:{mounting.name}:pull") if mounting and other else (own,)


class Work:
    """One push. Its threads share nothing but the session and the list of blobs on their way."""

    def __init__(
        self, session: Session, cache: Cache, compression: str, base: Base | None, mount_from: str | None
    ) -> None:
        self.session, self.cache, self.compression, self.mount_from = session, cache, compression, mount_from
        self.base = {blob.diff_id: blob for blob in base.layers} if base else {}
        self.guard = threading.Lock()
        self.on_their_way: dict[str, threading.Lock] = {}

    def push(self, image: Image, progress: Progress, workers: int) -> Pushed:
        if done := self.unchanged(image):
            return done
        config = Blob(name="config", digest=image.id, size=len(image.config), content=image.config)
        with progress.task("pushing") as task:
            found = self.layers(image, progress, task, workers)
            last = self.deliver(config, task)
        blobs = [found[layer] for layer in image.layers]
        manifest = manifest_of(image, [packed for packed, _ in blobs])
        sent = self.finish(manifest)
        return self.result(manifest, [*(pushed for _, pushed in blobs), last], sent)

    def layers(
        self, image: Image, progress: Progress, task: Task, workers: int
    ) -> dict[Layer, tuple[Packed, PushedBlob]]:
        """Bring all layers there, the biggest first: while one is on its way, the next is compressed."""
        ordered = sorted(image.layers, key=lambda layer: -layer.size)
        unknown = sum(layer.size for layer in ordered if self.known(layer) is None)
        with progress.task("compressing", unknown) if unknown else SilentTask() as squeezing:
            pool = ThreadPoolExecutor(max_workers=workers)
            try:
                done = pool.map(lambda layer: self.layer(layer, squeezing, task), ordered)
                return dict(zip(ordered, done, strict=True))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def unchanged(self, image: Image) -> Pushed | None:
        """Tell of a tag that means this very image already: then nothing is asked or sent but its digest."""
        packed = [self.known(layer) for layer in image.layers]
        whole = [one for one in packed if one]
        if len(whole) < len(packed):
            return None
        manifest = manifest_of(image, whole)
        if not self.tagged(manifest):
            return None
        names = zip(image.layers, whole, strict=True)
        blobs = [PushedBlob(name=x.name, digest=p.digest, size=p.size, fate="present") for x, p in names]
        config = PushedBlob(name="config", digest=image.id, size=len(image.config), fate="present")
        return self.result(manifest, [*blobs, config], sent=False)

    def result(self, manifest: bytes, blobs: list[PushedBlob], sent: bool) -> Pushed:
        own = self.session.reference
        return Pushed(reference=str(own), digest=sha256_bytes(manifest), blobs=tuple(blobs), manifest_sent=sent)

    def known(self, layer: Layer) -> Packed | None:
        """Return how a layer travels, if that is known: as its base's registry gave it, or compressed before."""
        if (blob := self.base.get(layer.diff_id)) and blob.media_type in COMPRESSIONS:
            media_type = layer_type(COMPRESSIONS[blob.media_type])
            path = self.cache.find("artifacts", blob.sha256)
            return Packed(digest=blob.sha256, size=blob.size, media_type=media_type, path=path)
        return known(layer, self.compression, self.cache)

    def layer(self, layer: Layer, squeezing: Task, task: Task) -> tuple[Packed, PushedBlob]:
        """Bring one layer there. It is compressed only when nothing is known of it, or its bytes are wanted."""
        packed = self.known(layer) or pack(layer, self.compression, self.cache, squeezing)
        with self.alone(packed.digest):
            if present(self.session, packed.digest):
                return packed, PushedBlob(name=layer.name, digest=packed.digest, size=packed.size, fate="present")
            if packed.path is None:  # the cache was cleaned: another library may compress to other bytes
                packed = pack(layer, self.compression, self.cache, squeezing)
            assert packed.path
            blob = Blob(name=layer.name, digest=packed.digest, size=packed.size, content=packed.path)
            return packed, self.send(blob, task, self.mount_from if layer.diff_id in self.base else None)

    def alone(self, digest: str) -> threading.Lock:
        """Two layers may be the same blob: the second waits for the first, and finds it there."""
        with self.guard:
            return self.on_their_way.setdefault(digest, threading.Lock())

    def deliver(self, blob: Blob, task: Task) -> PushedBlob:
        if present(self.session, blob.digest):
            return PushedBlob(name=blob.name, digest=blob.digest, size=blob.size, fate="present")
        return self.send(blob, task, None)

    def send(self, blob: Blob, task: Task, mount_from: str | None) -> PushedBlob:
        upload = Upload(self.session, blob, task)
        sent = upload.run(mount_from)
        fate: Fate = "sent" if sent else "mounted"
        return PushedBlob(name=blob.name, digest=blob.digest, size=blob.size, fate=fate, moved=upload.moved)

    def tagged(self, manifest: bytes) -> bool:
        """Tell whether the tag means this manifest already."""
        url = self.session.url(f"manifests/{self.session.reference.asked}")
        with self.session.request("HEAD", url, headers={"Accept": OCI_MANIFEST}) as told:
            digest: str = told.headers.get("docker-content-digest", "")
            return told.status_code == 200 and digest == f"sha256:{sha256_bytes(manifest)}"

    def finish(self, manifest: bytes) -> bool:
        """Put the manifest under the tag; False when it was there."""
        if self.tagged(manifest):
            return False
        url = self.session.url(f"manifests/{self.session.reference.asked}")
        with self.session.request("PUT", url, headers={"Content-Type": OCI_MANIFEST}, body=manifest) as told:
            if told.status_code not in (200, 201, 202):
                raise self.session.failure(f"{self.session.reference}: the manifest was refused", told)
        return True


def manifest_of(image: Image, packed: Sequence[Packed]) -> bytes:
    """Return an image's manifest for a registry ("Image Manifest"): its layers as they travel."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": f"sha256:{image.id}", "size": len(image.config)},
            "layers": [{"mediaType": x.media_type, "digest": f"sha256:{x.digest}", "size": x.size} for x in packed],
        }
    )
