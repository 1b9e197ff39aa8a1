"""What has to be executed once to become an artifact: wheels from source, and images from a Containerfile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.lock.model import Lock, Wheel
    from launcher.progress import Progress
    from launcher.resolve.workshop import Order, Saved


class OwnWorkshop:
    """A `launcher.resolve.workshop.Workshop` on this machine; what it takes is loaded when something is to be made."""

    def __init__(self, cache: Cache, progress: Progress) -> None:
        self.cache, self.progress = cache, progress

    def build_requirements(self, order: Order, builder: Lock) -> tuple[str, ...]:
        from launcher.workshop.wheels import build_requirements

        return build_requirements(order, builder, self.cache, self.progress)

    def wheel(self, order: Order, builder: Lock) -> Wheel:
        from launcher.workshop.wheels import build_wheel

        return build_wheel(order, builder, self.cache, self.progress)

    def containerfile(self, file: Path, platform: str) -> Saved:
        from launcher.workshop.containerfile import build_containerfile

        return build_containerfile(file, platform, self.cache, self.progress)
