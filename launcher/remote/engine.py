"""What can be asked of a container engine on the machine that this runs on: is an image there, pull it, load it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from launcher.errors import TargetError
from launcher.image.oci import Image

OURS = re.compile(r"127\.0\.0\.1:\d+/([0-9a-f]{64})[@:]")  # names under which engines pull from launcher.remote.serving
SETTINGS = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User")
START = "is it running, and may you use it? `docker info` there tells"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What an engine has of an image. `held` are the diff_ids that needn't be sent; bytes are of its own storage."""

    there: bool
    held: frozenset[str] = frozenset()
    free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Known:
    """An image that an engine holds, as it tells of it."""

    id: str
    layers: tuple[str, ...]
    names: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def known(told: Mapping[str, Any]) -> Known:
    """Read what `inspect` tells, of Docker and Podman alike."""
    return Known(
        id=told["Id"],
        layers=tuple((told.get("RootFS") or {}).get("Layers") or ()),
        names=(*(told.get("RepoTags") or ()), *(told.get("RepoDigests") or ())),
        settings=told.get("Config") or {},
    )


class Engine(Protocol):
    """A container engine. All raise TargetError when it doesn't answer, or refuses."""

    def images(self) -> Sequence[Known]:
        """Return all that it holds."""
        ...

    def find(self, name: str) -> Known | None: ...
    def keeps_blobs(self) -> bool:
        """Tell whether it knows layers by their content, wherever they stand in an image (containerd's store); else
        it is their whole prefix that it knows them by."""
        ...

    def free_bytes(self) -> int | None: ...
    def pull(self, reference: str) -> None: ...
    def load(self, archive: Iterable[bytes]) -> None:
        """Take an archive that lacks what the engine has."""
        ...

    def tag(self, name: str, tag: str) -> None: ...
    def untag(self, name: str) -> None:
        """Take a name away; with its last one an image goes."""
        ...


def docker() -> Engine:
    from launcher.remote.engine_docker import DockerEngine

    return DockerEngine()


def podman() -> Engine:
    from launcher.remote.engine_podman import PodmanEngine

    return PodmanEngine()


ENGINES: Mapping[str, Callable[[], Engine]] = {"docker": docker, "podman": podman}


def engine_of(runtime: str) -> Engine:
    """Return the engine of a runtime. Raises TargetError when there is none, or it doesn't answer."""
    if runtime not in ENGINES:
        raise TargetError(f"the runtime {runtime} has no engine that holds images")
    return ENGINES[runtime]()


def standing(engine: Engine, image: Image) -> Standing:
    """Ask what an engine has of an image; one that it has without its tag gets that. Raises TargetError."""
    if (found := engine.find(image.tag)) and same(found, image):
        return Standing(there=True)
    all_of_them = engine.images()
    for one in all_of_them:
        if same(one, image):
            engine.tag(one.id, image.tag)
            return Standing(there=True)
    held = {x for one in all_of_them for x in shared(one.layers, image.diff_ids, prefix=not engine.keeps_blobs())}
    return Standing(there=False, held=frozenset(held), free_bytes=engine.free_bytes())


def shared(theirs: Sequence[str], ours: Sequence[str], *, prefix: bool) -> list[str]:
    """Return which of our layers another image brings: all, or those that lie lowest in both."""
    if not prefix:
        return [x for x in ours if x in theirs]
    return list(ours[: first_difference(theirs, ours)])


def first_difference(theirs: Sequence[str], ours: Sequence[str]) -> int:
    return next((n for n, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x != y), min(len(ours), len(theirs)))


def same(known: Known, image: Image) -> bool:
    """Tell whether an engine's image is ours: by its id, which is the config's digest in some stores only, or else by
    its layers and by what a container of it starts with."""
    if list(known.layers) != image.diff_ids:
        return False
    ours = json.loads(image.config).get("config", {})
    return known.id.removeprefix("sha256:") == image.id or all(
        (ours.get(name) or None) == (known.settings.get(name) or None) for name in SETTINGS
    )
