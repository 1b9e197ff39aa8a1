"""Bring an image to a box's container engine without a registry: what the engine lacks travels, and nothing else.

The cache is served on this machine's loopback, and a port of the box's loopback leads to it, so that the engine's pull
decides what is sent. Where sshd forbids that, the layers that the engine seems to lack are sent as files first. Either
way a layer that was cut goes on where it stopped, and the image counts only once its layers are those of the lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.errors import DiskFullError, IntegrityError, LauncherError, TargetError
from launcher.progress import SILENT, Progress, Task
from launcher.remote.agent import call
from launcher.remote.host import ForbiddenError, LostWayError
from launcher.remote.persistence import Counting, through_cuts

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.image.oci import Image, Layer
    from launcher.profiles.model import Profile
    from launcher.remote.model import Shell

LOOKING = "launcher.remote.looking"
LOOK_S = 300


@dataclass(frozen=True, kw_only=True)
class Box:
    """An engine, and how it is reached."""

    shell: Shell
    profile: Profile
    tools: str
    shared: str  # launcher's folder there, absolute
    image: Image

    def ask(self, function: str, timeout_s: float | None = None, **more: Any) -> Any:
        from launcher.remote.wire import image_json

        told = {"runtime": self.profile.runtime, "shared": self.shared, "image": image_json(self.image), **more}
        setup = self.profile.setup
        return call(self.shell, self.tools, function, told, setup=setup, module=LOOKING, timeout_s=timeout_s)


def deliver(shell: Shell, profile: Profile, tools: str, image: Image, cache: Cache, progress: Progress = SILENT) -> str:
    """Have a box's engine hold the image; return the reference by which it knows it there.

    One round trip where it is there. `tools` is where launcher lies on the box, below launcher's folder. Raises
    TargetError when the engine refuses or the way is lost for good, DiskFullError, IntegrityError when a layer was
    damaged in the cache.
    """
    box = Box(shell=shell, profile=profile, tools=tools, shared=tools.rpartition("/tools/")[0], image=image)
    counted = Counting(progress)
    return through_cuts(lambda: once(box, cache, counted), progress, lambda: 1 + counted.moved)  # its tools are there


def present(shell: Shell, profile: Profile, tools: str, image: Image) -> str | None:
    """Return the reference of an image that a box's engine holds already; None where it doesn't, or nothing is known.

    For a look that is made ahead, where the tools may be there: whatever it meets is told by what comes after it.
    """
    box = Box(shell=shell, profile=profile, tools=tools, shared=tools.rpartition("/tools/")[0], image=image)
    with contextlib.suppress(LauncherError):
        return image.tag if box.ask("look", LOOK_S)["there"] else None
    return None


def once(box: Box, cache: Cache, progress: Progress) -> str:
    """Look what is missing, and bring it. Raises LostWayError when it was cut."""
    seen = box.ask("look", LOOK_S)
    if seen["there"]:
        return box.image.tag
    missing = [x for x in box.image.layers if f"sha256:{x.diff_id}" not in seen["held"]]
    check_room(box, sum(x.size for x in missing), seen["free_bytes"])
    left = sum(x.size - seen["come"].get(x.diff_id, 0) for x in missing)
    with progress.task(f"image to {box.shell.where}", left) as task:
        try:
            told = brought(box, missing, task, progress)
        except TargetError:
            look_for_damage(box.image, cache)
            raise
    if "reference" in told:
        return str(told["reference"])
    raise LostWayError(f"the image stopped on its way to {box.shell.where}: {told['lost']}")


def check_room(box: Box, size: int, free: int | None) -> None:
    if free is not None and size > free:
        raise DiskFullError(
            f"no room for the image on {box.shell.where}: {size} bytes are missing, {free} are free",
            hint="free some there: `docker system df` tells of what",
        )


def look_for_damage(image: Image, cache: Cache) -> None:
    """Raise IntegrityError where a layer of ours isn't what it should be: that is why nobody took it."""
    for layer in image.layers:
        if layer.path.is_relative_to(cache.root) and cache.find("blobs", layer.diff_id) is None:
            raise IntegrityError(
                f"the layer {layer.name} was damaged in the cache after it was made",
                hint="it was removed; the same command again makes it anew",
            )


def brought(box: Box, missing: Sequence[Layer], task: Task, progress: Progress) -> dict[str, Any]:
    """Bring the layers through a port that leads here, or as files; return what the box answered."""
    with led_back(box, task) as source:
        if source is None:
            return as_files(box, missing, progress)
        told: dict[str, Any] = box.ask("take", source=source, staged=[])
        return told


@contextlib.contextmanager
def led_back(box: Box, task: Task) -> Iterator[dict[str, Any] | None]:
    """Serve the image, and give what the box needs to reach it; None where its sshd leads nothing back here."""
    from launcher.remote.serving import offer, serving

    with serving(offer(box.image, task)) as registry, contextlib.ExitStack() as stack:
        try:
            port = stack.enter_context(box.shell.forward(registry.port))
        except ForbiddenError:
            yield None
        else:
            yield {"port": port, "secret": registry.offer.secret}


def as_files(box: Box, missing: Sequence[Layer], progress: Progress) -> dict[str, Any]:
    """Send layers as files, then have the engine take them; what it lacks beyond them is sent, too."""
    from launcher.profiles.places import Places
    from launcher.remote.delivery import deliver as deliver_items
    from launcher.remote.items import Item

    places, wanted = Places(box.shared), list(missing)
    while True:
        items = [Item(path=Places("").blob(x.diff_id), source=x.path) for x in wanted]
        deliver_items(box.shell, places, items, progress, profile=box.profile)
        told: dict[str, Any] = box.ask("take", source=None, staged=[x.diff_id for x in wanted])
        lacking = {*told.get("lacks", ())} - {x.diff_id for x in wanted}
        if not lacking:
            return told
        wanted += [x for x in box.image.layers if x.diff_id in lacking]
