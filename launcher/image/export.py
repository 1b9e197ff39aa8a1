"""The image out of the cache: as a file, or straight into a Docker engine; every byte is hashed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cache import disk_full
from launcher.errors import IntegrityError, TargetError, UsageError
from launcher.image.archive import archive_entries
from launcher.image.oci import Image, Layer
from launcher.image.output import written_once
from launcher.image.tar import coalesced, layer_chunks
from launcher.image.tree import Entry, Slice

if TYPE_CHECKING:
    from docker import DockerClient

OUTPUT_FULL = "free some, or write the archive to a larger file system; nothing half-written was kept"


def checked_chunks(image: Image) -> Iterator[bytes]:
    """Yield an OCI layout as a tar archive; raises IntegrityError when a layer isn't what its digest says."""
    layers = {layer.diff_id: layer for layer in image.layers}
    entries = [checked(entry, layers.get(Path(entry.path).name)) for entry in archive_entries(image)]
    return coalesced(layer_chunks(entries))


def checked(entry: Entry, layer: Layer | None) -> Entry:
    if layer is None or not isinstance(entry.content, Slice):
        return entry
    return replace(entry, content=CheckedLayer(entry.content, layer))


class CheckedLayer:
    """A layer's bytes, hashed as they are read."""

    def __init__(self, content: Slice, layer: Layer) -> None:
        self.content, self.layer, self.size = content, layer, content.size

    def chunks(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for chunk in self.content.chunks():
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self.layer.diff_id:
            self.layer.path.unlink(missing_ok=True)
            raise IntegrityError(
                f"the layer {self.layer.name} was damaged in the cache after it was made",
                hint="it was removed; the same command again makes it anew",
            )


def check_output(out: Path) -> None:
    """Raise UsageError where no archive can be written: better before an image is made than after."""
    if str(out) == "-":
        raise UsageError("an archive isn't written to stdout", hint="name a file; `launcher build --docker` needs none")
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint=f"name the file, such as {out / 'image.tar'}")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} to", hint="make it first")


def write_archive(image: Image, out: Path) -> None:
    """Write an OCI archive that `docker load` reads too: a file whole or not at all.

    A pipe or a device is written to as it is: a rename would put a file in its place. Raises UsageError when `out`
    is a folder or lies in none, DiskFullError, IntegrityError when a layer was damaged.
    """
    check_output(out)
    with disk_full(out.parent, OUTPUT_FULL):
        if out.exists() and not out.is_file():
            write_chunks(image, out)
        else:
            with written_once(out.resolve()) as part:  # a link stays a link, /dev/stdout among them
                write_chunks(image, part)


def write_chunks(image: Image, out: Path) -> None:
    with out.open("wb") as stream:
        for chunk in checked_chunks(image):
            stream.write(chunk)


def load_into_docker(image: Image, client: DockerClient | None = None) -> str:
    """Put the image into a Docker engine, unless it is there; return its tag.

    What is there is compared by diff_ids: `.Id` is the config's digest in graph drivers only (containerd's store
    gives the manifest's). Raises TargetError when no engine answers or the engine refuses, or when it lost an image
    whose layers lie in another machine's cache.
    """
    import docker
    from docker.errors import DockerException

    try:
        engine = client or docker.from_env()
        if loaded_layers(engine, image.tag) != image.diff_ids:
            check_layers(image)
            send(engine, image)
            if loaded_layers(engine, image.tag) != image.diff_ids:
                raise TargetError(f"the Docker engine holds other layers under {image.tag} than were sent to it")
    except DockerException as e:
        raise TargetError(
            f"the Docker engine can't take the image: {e}",
            hint="is it running, and may you use it? `docker info` tells; `launcher build -o image.tar` needs none",
        ) from e
    return image.tag


def check_layers(image: Image) -> None:
    """Raise TargetError where layers aren't here: a box's engine was brought the image, and no file was kept."""
    if not all(layer.path.exists() for layer in image.layers):
        raise TargetError(
            f"the engine has no image {image.tag} any more, and its layers were never kept on this machine",
            hint="somebody removed it (`docker image prune`?); start the run again from where it was launched: that "
            "brings it back",
        )


def send(engine: Any, image: Image) -> None:
    for said in engine.api.load_image(checked_chunks(image)):
        if isinstance(said, dict) and said.get("error"):
            raise TargetError(f"the Docker engine refused the image: {said['error']}")


def loaded_layers(engine: Any, tag: str) -> list[str] | None:
    """Return the diff_ids of an image that an engine holds, or None."""
    from docker.errors import ImageNotFound

    try:
        return list(engine.api.inspect_image(tag)["RootFS"]["Layers"])
    except ImageNotFound:
        return None
