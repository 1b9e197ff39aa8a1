"""How an image gets to a site: the layers that it lacks, of which the SIF is made there, or the SIF as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.node.images import SIF_RUNTIMES, files, to_json
from launcher.profiles.places import Places
from launcher.remote.delivery import Delivery
from launcher.remote.here import Here
from launcher.remote.items import Item
from launcher.target import accounts

if TYPE_CHECKING:
    from launcher.image.oci import Image
    from launcher.remote.model import Shell


def delivery(shell: Shell, image: Image, runtime: str, cache: Cache) -> Delivery:
    """Return what brings an image to where `shell` leads.

    Over a network layers travel, since other images have the same ones; on this machine they would only be copied.
    Raises what `launcher.image.sif.sif` does.
    """
    if isinstance(shell, Here) or runtime not in SIF_RUNTIMES:
        return Delivery(items=tuple(Item(path=path, source=source) for path, source in files(image, cache, runtime)))
    places = Places("")
    made = (places.image(image.id, "image.json"), places.image(image.id, "image.sif"))
    items = [Item(path=places.blob(x.diff_id), source=x.path, unless=made) for x in image.layers]
    told = to_json(image, accounts.of_image(image, cache))
    items.append(Item(path=places.image(image.id, "image.json"), source=told))
    make = ("{tools}/bin/python", "-I", "-m", "launcher.remote.making", "{shared}", image.id)
    return Delivery(items=tuple(items), runs=(make,), unless=made)
