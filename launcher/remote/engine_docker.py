"""A Docker engine as an Engine, through its API: a command line's words would be read by everybody in `ps`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from launcher.errors import DiskFullError, TargetError
from launcher.remote.engine import START, Known, known

T = TypeVar("T")
LONG_S = 86400  # a big layer is unpacked in silence
CONTAINERD = "containerd.snapshotter"  # "driver-type" of `docker info`, where images lie in containerd's store
NO_ROOM = "no space left on device"


class DockerEngine:
    """The engine that DOCKER_HOST and the docker CLI's settings name."""

    def __init__(self) -> None:
        import docker

        self.client: Any = answered(lambda: docker.from_env(timeout=LONG_S))
        self.told: dict[str, Any] = answered(self.client.info)

    def images(self) -> Sequence[Known]:
        found = answered(lambda: self.client.api.images(all=False))
        return [known for one in found if (known := self.find(one["Id"]))]

    def find(self, name: str) -> Known | None:
        from docker.errors import ImageNotFound

        try:
            return known(answered(lambda: self.client.api.inspect_image(name)))
        except ImageNotFound:
            return None

    def keeps_blobs(self) -> bool:
        return any(CONTAINERD in str(value) for _, value in self.told.get("DriverStatus") or ())

    def free_bytes(self) -> int | None:
        with suppress(OSError, KeyError, AttributeError):
            room = os.statvfs(self.told["DockerRootDir"])
            return room.f_bavail * room.f_frsize
        return None

    def pull(self, reference: str) -> None:
        name, _, digest = reference.partition("@")
        checked(answered(lambda: list(self.client.api.pull(name, tag=digest, stream=True, decode=True))))

    def load(self, archive: Iterable[bytes]) -> None:
        checked(answered(lambda: list(self.client.api.load_image(archive))))

    def tag(self, name: str, tag: str) -> None:
        repository, _, word = tag.rpartition(":")
        answered(lambda: self.client.api.tag(name, repository, word))

    def untag(self, name: str) -> None:
        from docker.errors import ImageNotFound

        with suppress(ImageNotFound):
            answered(lambda: self.client.api.remove_image(name, noprune=False))


def checked(said: Iterable[Any]) -> None:
    """Raise TargetError or DiskFullError when an engine said that something went wrong."""
    for one in said:
        if isinstance(one, dict) and (error := one.get("error")):
            raise refused(str(error))


def refused(why: str) -> TargetError | DiskFullError:
    if NO_ROOM in why:
        return DiskFullError(f"no room for the image: {why}", hint="free some there: `docker system df` tells of what")
    return TargetError(f"the Docker engine can't take the image: {why}", hint=START)


def answered(ask: Callable[[], T]) -> T:
    """Ask an engine. Raises ImageNotFound, else TargetError or DiskFullError for what it says or doesn't."""
    from docker.errors import DockerException, ImageNotFound

    try:
        return ask()
    except ImageNotFound:
        raise
    except (DockerException, OSError) as e:  # requests' errors are OSErrors
        raise refused(str(e)) from e
