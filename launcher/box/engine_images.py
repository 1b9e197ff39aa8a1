"""Images and containers of ours in a box's engine, by the names that we gave them: what others put there stays."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping

from launcher.errors import ProcessError
from launcher.process import run
from launcher.target.docker import connect, name_of

ASK_S = 60.0
Sizes = Mapping[str, int]


def tag_of(image: str) -> str:
    """Return what engines know an image by, from its id (launcher.image.oci.Image.tag)."""
    return f"launcher:{image[:12]}"


def sizes(runtime: str, images: Iterable[str]) -> Sizes | None:
    """Return how many bytes each of these images takes that no other one has; those that the engine hasn't got are
    left out. None where it doesn't answer; without an engine there is nothing."""
    ask: Callable[[], Sizes | None] | None = {"docker": docker_sizes, "podman": podman_sizes}.get(runtime)
    if ask is None:
        return {}
    known = ask()
    return None if known is None else {one: known[tag_of(one)] for one in images if tag_of(one) in known}


def docker_sizes() -> Sizes | None:
    from docker.errors import DockerException

    try:
        with contextlib.closing(connect()) as client:
            every = client.df().get("Images") or []
    except (DockerException, OSError):
        return None
    return {tag: own_size(one) for one in every for tag in one.get("RepoTags") or []}


def own_size(told: Mapping[str, int]) -> int:
    return max(0, int(told.get("Size", 0)) - max(0, int(told.get("SharedSize", 0))))


def podman_sizes() -> Sizes | None:
    try:
        every = json.loads(run(["podman", "images", "--format", "json"], timeout_s=ASK_S).stdout)
        names = ((one, name) for one in every for name in one.get("Names") or [])
        return {name.removeprefix("localhost/"): own_size(one) for one, name in names}
    except (ProcessError, ValueError):
        return None


def remove_image(runtime: str, image: str) -> bool:
    """Take our name from an image; with its last name it goes. Return False where a container still has it."""
    if runtime == "podman":
        return not run(["podman", "image", "rm", tag_of(image)], timeout_s=ASK_S, check=False).returncode
    from docker.errors import DockerException, ImageNotFound

    try:
        with contextlib.closing(connect()) as client:
            client.images.remove(tag_of(image), force=False)
    except ImageNotFound:
        return True
    except (DockerException, OSError):
        return False
    return True


def remove_containers(runtime: str, job: str) -> None:
    """Remove the containers that a run left; one that runs stays."""
    names = (name_of(job), f"launcher-keep-{job}")
    if runtime == "podman":
        run(["podman", "rm", "--ignore", *names], timeout_s=ASK_S, check=False)
    if runtime != "docker":
        return
    from docker.errors import DockerException

    with contextlib.suppress(DockerException, OSError), contextlib.closing(connect()) as client:
        for name in names:
            with contextlib.suppress(DockerException):
                client.containers.get(name).remove(force=False)
