"""The image on a site: what is sent there, and how a node finds it again without the cache that it was built in.

images/<image id>/image.json   its documents, the names of its layers, its /etc/passwd and /etc/group
images/<image id>/image.sif    for Apptainer; other runtimes get the layers, blobs/sha256/<aa>/<diff_id>
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cache import Cache
from launcher.digest import sha256_bytes, sha256_file
from launcher.errors import TargetError
from launcher.image.oci import Image, Layer
from launcher.profiles.places import Places
from launcher.target import accounts

VERSION = 1
SIF_RUNTIMES = ("apptainer", "singularity")


@dataclass(frozen=True, kw_only=True)
class Sif:
    """The SIF beside an image.json."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """An image as a site has it. `folder` holds its image.json."""

    image: Image
    accounts: Mapping[str, str]
    sif: Sif | None
    folder: Path


def files(image: Image, cache: Cache, runtime: str) -> list[tuple[str, Path | bytes]]:
    """Return (path below the shared folder, content) of all that a runtime needs of an image, image.json last.

    Raises what `launcher.image.sif.sif` does.
    """
    places = Places("")
    if runtime not in SIF_RUNTIMES:
        layers: list[tuple[str, Path | bytes]] = [(places.blob(x.diff_id), x.path) for x in image.layers]
        return [*layers, (places.image(image.id, "image.json"), to_json(image, accounts.of_image(image, cache)))]
    from launcher.image.sif import sif

    made = sif(image, cache)
    told = Sif(sha256=made.name, size=made.stat().st_size)  # a blob's name is its digest
    document = to_json(image, accounts.of_image(image, cache), told)
    return [(places.image(image.id, "image.sif"), made), (places.image(image.id, "image.json"), document)]


def to_json(image: Image, accounts_text: Mapping[str, str], sif: Sif | None = None) -> bytes:
    layers = [{name: getattr(x, name) for name in ("rank", "name", "diff_id", "size", "listing")} for x in image.layers]
    told: dict[str, Any] = {
        "version": VERSION,
        "id": image.id,
        "config": image.config.decode(),
        "manifest": image.manifest.decode(),
        "layers": layers,
        "accounts": dict(accounts_text),
        "sif": vars(sif) if sif else None,
    }
    return json.dumps(told, indent=1, sort_keys=True).encode()


def read(shared: str, image: str) -> Delivered:
    """Read an image from a site's shared folder. Raises TargetError when it isn't there, or isn't that image."""
    places = Places(shared)
    file = Path(places.image(image, "image.json"))
    try:
        told = json.loads(file.read_bytes())
        config = told["config"].encode()
        if told["version"] != VERSION or sha256_bytes(config) != image:
            raise ValueError("it is another image's, or another launcher's")
        layers = tuple(Layer(**one, path=Path(places.blob(one["diff_id"]))) for one in told["layers"])
        made = Image(id=image, config=config, manifest=told["manifest"].encode(), layers=layers)
        sif = Sif(**told["sif"]) if told["sif"] else None
        return Delivered(image=made, accounts=told["accounts"], sif=sif, folder=file.parent)
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise TargetError(f"the image in {file} can't be used: {e}", hint="submit again: that sends it anew") from e


def is_whole(path: Path, sif: Sif, *, whole: bool = False) -> bool:
    """Tell whether a SIF is what it should be, by its size; with `whole` by its digest."""
    try:
        if path.stat().st_size != sif.size:
            return False
        return not whole or sha256_file(path)[0] == sif.sha256
    except OSError:
        return False
