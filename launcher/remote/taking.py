"""A box's side of bringing an image to its engine: what launcher.remote.looking answers with.

The engine pulls from a registry that serves for as long as this runs, on the box's own loopback. Layers that it asks
for come from the client through a forwarded port (launcher.remote.arriving), or were sent as files before. An engine
that lives in a network of its own, and so finds no registry, is given an archive instead.
"""

from __future__ import annotations

import fcntl
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher.digest import sha256_bytes
from launcher.errors import DiskFullError, LauncherError, TargetError
from launcher.image.archive import docker_manifest
from launcher.image.oci import Image
from launcher.profiles.places import Places
from launcher.remote.arriving import Arriving, Source, Traffic
from launcher.remote.engine import OURS, Engine, Standing, engine_of, standing
from launcher.remote.serving import Blob, BytesBlob, Offer, serving
from launcher.remote.wire import image_from

MARK = "taking-"
BLOCK = 512
PULLS = 3
Told = Mapping[str, Any]


def look(told: Told) -> dict[str, Any]:
    """Tell what the engine has of an image, and how much of the layers has come already. Raises TargetError."""
    image = image_from(told["image"])
    engine = engine_of(told["runtime"])
    sweep(engine, told["shared"])
    found: Standing = standing(engine, image)
    layers = arriving(image, told["shared"], None, Traffic())
    come = {x.diff_id: x.have() for x in layers if f"sha256:{x.diff_id}" not in found.held}
    return {**asdict(found), "held": sorted(found.held), "come": come}


def take(told: Told) -> dict[str, Any]:
    """Bring the image into the engine under its tag; or tell which layers it `lacks`, or that the way is `lost`.

    Raises TargetError when the engine refuses, DiskFullError.
    """
    image, shared = image_from(told["image"]), told["shared"]
    engine, traffic = engine_of(told["runtime"]), Traffic()
    source = Source(**told["source"]) if told["source"] else None
    layers = arriving(image, shared, source, traffic)
    blobs: dict[str, Blob] = {f"sha256:{x.diff_id}": x for x in layers}
    offered = Offer(manifest=image.manifest, blobs={**blobs, f"sha256:{image.id}": BytesBlob(data=image.config)})
    try:
        with marked(shared, offered.secret):
            bring(engine, image, offered, layers, traffic)
    except LauncherError:
        if traffic.lacking:
            return {"lacks": sorted(traffic.lacking)}
        if traffic.over.is_set() and not traffic.full:
            return {"lost": traffic.lost}
        raise
    leave_nothing(layers, told["staged"])
    return {"reference": image.tag, "fetched": traffic.fetched}


def arriving(image: Image, shared: str, source: Source | None, traffic: Traffic) -> list[Arriving]:
    return [
        Arriving(diff_id=x.diff_id, size=x.size, shared=shared, source=source, traffic=traffic) for x in image.layers
    ]


def bring(engine: Engine, image: Image, offered: Offer, layers: Sequence[Arriving], traffic: Traffic) -> None:
    """Have the engine pull; where it can't reach us, load an archive. Raises TargetError, DiskFullError."""
    with serving(offered) as registry:
        reference = f"127.0.0.1:{registry.port}/{offered.secret}@{offered.digest}"
        if pulled(engine, reference, layers, traffic, registry.asked):
            adopt(engine, reference, image)
        else:
            unless_over(lambda: engine.load(archive(image, layers, standing(engine, image))), traffic)
    if not standing(engine, image).there:
        raise TargetError(f"the engine holds other layers under {image.tag} than were sent to it")


def pulled(
    engine: Engine, reference: str, layers: Sequence[Arriving], traffic: Traffic, asked: threading.Event
) -> bool:
    """Have an engine pull; return whether it could reach us at all. Raises TargetError, DiskFullError.

    Another pull of the same layer shares its transfer with ours, in Docker: when that one is killed, ours fails, too.
    """
    for left in reversed(range(PULLS)):
        try:
            unless_over(lambda: engine.pull(reference), traffic)
        except TargetError:
            if not asked.is_set():
                return False
            look_for_damage(layers)
            if traffic.over.is_set() or not left:
                raise
        else:
            return True
    raise AssertionError("the last one raises")


def unless_over(work: Callable[[], None], traffic: Traffic) -> None:
    """Work, but no longer than layers can be had: engines would try again for minutes."""
    ended: list[BaseException | None] = []

    def working() -> None:
        try:
            work()
            ended.append(None)
        except BaseException as e:
            ended.append(e)
        finally:
            done.set()

    done = threading.Event()
    threading.Thread(target=working, daemon=True).start()
    while not done.wait(0.05) and not traffic.over.is_set():
        pass
    if traffic.full:
        raise DiskFullError("no room for the image's layers in launcher's folder", hint="free some there")
    if not ended:
        raise TargetError(f"the layers don't come: {traffic.lost}")
    if ended[0] is not None:
        raise ended[0]


def adopt(engine: Engine, reference: str, image: Image) -> None:
    """Give a pulled image its tag, and take away the name that it was pulled by: port and secret are of no use."""
    engine.tag(reference, image.tag)
    engine.untag(reference)


def look_for_damage(layers: Sequence[Arriving]) -> None:
    """Raise TargetError when a layer that came whole isn't what it should be; it is removed."""
    if damaged := [x.diff_id[:12] for x in layers if x.drop_if_damaged()]:
        raise TargetError(
            f"layers were damaged on the way or on the box's disk: {', '.join(damaged)}",
            hint="they were removed; the same again sends them anew",
        )


def archive(image: Image, layers: Sequence[Arriving], found: Standing) -> Iterator[bytes]:
    """Yield what `docker load` reads (manifest.json, config, layers), without the layers that the engine has."""
    yield from member("manifest.json", BytesBlob(data=docker_manifest(image)))
    yield from member(f"blobs/sha256/{image.id}", BytesBlob(data=image.config))
    for layer in layers:
        if f"sha256:{layer.diff_id}" not in found.held:
            yield from member(f"blobs/sha256/{layer.diff_id}", layer)
    yield bytes(2 * BLOCK)


def member(name: str, blob: Blob) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = blob.size, 0o644
    yield info.tobuf(tarfile.GNU_FORMAT)
    yield from blob.chunks(0)
    yield bytes(-blob.size % BLOCK)


def leave_nothing(layers: Sequence[Arriving], staged: Sequence[str]) -> None:
    """Remove what has served its purpose; who is at the same still has it open."""
    for one in layers:
        one.part.unlink(missing_ok=True)
        if one.diff_id in staged:
            one.whole.unlink(missing_ok=True)


@contextmanager
def marked(shared: str, secret: str) -> Iterator[None]:
    """Hold a lock for as long as an image may have a name of this secret: who finds it free removes that name."""
    place = mark_of(shared, secret)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
        place.unlink(missing_ok=True)


def mark_of(shared: str, secret: str) -> Path:
    return Path(Places(shared).at("tmp", MARK + sha256_bytes(secret.encode())[:16]))


def sweep(engine: Engine, shared: str) -> None:
    """Take away the names that killed ones have left."""
    left = [place for place in Path(Places(shared).at("tmp")).glob(f"{MARK}*") if is_free(place)]
    if not left:
        return
    for image in engine.images():
        for name in image.names:
            found = OURS.match(name)
            if found and mark_of(shared, found[1]) in left:
                engine.untag(name)
    for place in left:
        place.unlink(missing_ok=True)


def is_free(place: Path) -> bool:
    with suppress(OSError), place.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
