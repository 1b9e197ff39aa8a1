"""The nouns of a lock: every artifact by sha256. No URL, no host, no absolute path, no time of day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from launcher.gpu.model import Gpu

LOCK_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file known by its sha256 (64 hex digits). `size` is in bytes."""

    name: str
    version: str
    filename: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Wheel(Artifact):
    """A Python wheel. `name` is normalised as PEP 503 says.

    One that was built at lock time, because its version has none, names the `sdist` (sha256) and the `builder` (id
    of the image that it was built in): it can't be had from an index, only from the cache or a vault.
    """

    sdist: str | None = None
    builder: str | None = None


@dataclass(frozen=True, kw_only=True)
class Blob(Artifact):
    """A layer of a base image, byte for byte as its registry gave it; `sha256` is its digest there.

    `diff_id` is the sha256 of the tar inside, 64 hex digits, and `unpacked` that tar's size in bytes.
    """

    media_type: str
    diff_id: str
    unpacked: int


@dataclass(frozen=True, kw_only=True)
class Base:
    """The image that this one starts from; its layers are used as they are.

    `manifest` is the sha256 of the platform's manifest; where it comes from is `inputs.base`. `system` is the ID of its
    /etc/os-release (os-release(5)): "debian", "ubuntu", or another's. One of kind "containerfile" was executed:
    it can be restored from its blobs, never rebuilt.
    """

    kind: Literal["registry", "containerfile"]
    manifest: str
    system: str
    config: Artifact
    layers: tuple[Blob, ...]


@dataclass(frozen=True, kw_only=True)
class Deb(Artifact):
    """A Debian binary package.

    `group` is "base" for what every image of this suite has (the Essential packages, ca-certificates, and
    python3 when the image has Python) and "apt" for what the spec asked for. `pool` is the path below a
    mirror's root, such as `pool/main/j/jq/jq_1.6-2.1_amd64.deb`: a layout, not a place.
    """

    architecture: str
    group: Literal["base", "apt"]
    pool: str


@dataclass(frozen=True, kw_only=True)
class DataPin:
    """An input of the run. For a tree, `sha256` is its tree digest and `size` the sum of its files."""

    name: str
    kind: Literal["file", "tree"]
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the spec asked for, normalised and sorted: by this `lock --check` tells whether the lock still fits."""

    base: str
    platform: str
    python: str | None
    containerfile: str | None = None  # digest of the Containerfile and of what it copies; `base` is then empty
    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    build: tuple[str, ...] = ()  # names of distributions that are built from source
    build_apt: tuple[str, ...] = ()
    build_base: str | None = None


@dataclass(frozen=True, kw_only=True)
class LayerPin:
    """One layer of the image. `diff_id` and `listing` are 64 hex digits; `listing` names the layer's list of
    files (a small artifact that tells which path differs when a rebuild differs); `size` is the tar's, in bytes.
    """

    name: str
    diff_id: str
    size: int
    listing: str


@dataclass(frozen=True, kw_only=True)
class ImagePin:
    """The image that this lock gives, as it was when the lock was written: what `rebuild` compares with.

    `id` is the sha256 of the OCI config; `layers` is in stacking order, lowest first (never sorted); `assembler`
    is the version of the rules by which it was made: others make another image of the same artifacts.
    """

    assembler: int
    id: str
    layers: tuple[LayerPin, ...]


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What a spec means today.

    `python` is the full version in the image ("3.11.2") or None, and `interpreter` its path in the image where that
    is not /usr/bin/pythonX.Y; `libc` is like "glibc 2.36"; `env` is the image's own environment, in the spec's words.
    `suite` is the base's codename ("bookworm", "noble"), or its ID and version where it has none.
    """

    version: int = LOCK_VERSION
    inputs: Inputs
    suite: str
    architecture: str  # Debian's word: amd64, arm64
    python: str | None
    interpreter: str | None = None
    libc: str
    base: Base | None = None
    gpu: Gpu | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    debs: tuple[Deb, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    data: tuple[DataPin, ...] = ()
    image: ImagePin | None = None  # filled in by `launcher lock` once the image is assembled; `resolve` leaves None

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Every file that an image of this lock is made from."""
        base = (self.base.config, *self.base.layers) if self.base else ()
        return (*base, *self.debs, *self.wheels)

    @property
    def executed(self) -> tuple[Artifact, ...]:
        """Artifacts that were made once by executing something, and are to be had only where they were kept."""
        once = self.base if self.base and self.base.kind == "containerfile" else None
        base = (once.config, *once.layers) if once else ()
        return (*base, *(wheel for wheel in self.wheels if wheel.sdist))
