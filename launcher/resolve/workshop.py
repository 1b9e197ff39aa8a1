"""The seam to what has to execute something at lock time: resolving says what is wanted, a workshop makes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.lock.model import Artifact, Lock, Wheel
from launcher.resolve.platform import Platform


@dataclass(frozen=True, kw_only=True)
class Order:
    """A wheel to be built from an sdist that lies in the cache, hash-checked.

    `backend` is the import path of the build backend, `backend_path` the in-tree folders that it may lie in (PEP 517).
    `platform` is the image's: the wheel has to run there.
    """

    name: str
    version: str
    sdist: Artifact
    backend: str
    backend_path: tuple[str, ...]
    platform: Platform


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An image as an engine gave it: its config and its layers' tars, which lie in the cache under these sha256."""

    config: Artifact
    layers: tuple[Artifact, ...]


class Workshop(Protocol):
    """What builds wheels in an image of ours, without a network, and images from Containerfiles by an engine."""

    def build_requirements(self, order: Order, builder: Lock) -> tuple[str, ...]:
        """Ask the backend what else it needs (PEP 517, get_requires_for_build_wheel). Raises ResolveError."""
        ...

    def wheel(self, order: Order, builder: Lock) -> Wheel:
        """Build the wheel in the builder's image; it lies in the cache then. Raises ResolveError."""
        ...

    def containerfile(self, file: Path, platform: str) -> Saved:
        """Build an image from a Containerfile with the engine at hand. Raises ResolveError, TargetError."""
        ...
