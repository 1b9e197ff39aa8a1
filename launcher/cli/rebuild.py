"""`launcher rebuild`: the same image from its lock alone, or what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.pipeline import built, given_lock, why_another
from launcher.cli.progress import choose_progress
from launcher.image import Image, Layer
from launcher.image.keys import ASSEMBLER
from launcher.image.listing import differences
from launcher.lock import LayerPin, Lock, load

if TYPE_CHECKING:
    from launcher.indexes.source import Source

SHOWN_PATHS = 20


@click.command("rebuild")
@click.argument("lock", type=click.Path(path_type=Path))
@click.option("--from", "store", metavar="STORE", help="Fetch from the vault in this store first.")
@click.option("--offline", is_flag=True, help="Ask no package index: only the cache and the vault.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the image as an OCI archive too.")
@json_option
def rebuild(lock: Path, store: str | None, offline: bool, output: Path | None, as_json: bool) -> int:
    """Make the image of LOCK again, from the lock alone, and compare it bit by bit.

    Ends with 0 and `identical`, or with 1 and the layers and paths that differ. An image over a Containerfile's base
    is `restored`: what an engine executed is kept, not made again.
    """
    pinned = load(given_lock(lock))
    if output:
        from launcher.image.export import check_output, write_archive

        check_output(output)
    cache, progress = Cache(), choose_progress()
    sources = places(store, offline, pinned)
    image = built(pinned, cache, progress, sources=sources)
    if output:
        write_archive(image, output)
    differing = compare(pinned, image, cache, sources)
    report(pinned, image, differing, as_json)
    return 1 if differing else 0


def places(store: str | None, offline: bool, lock: Lock) -> list[Source]:
    """Return where artifacts may come from: the vault, then what this machine is configured for."""
    from launcher.fetch import base_sources, default_sources

    found: list[Source] = []
    if store:
        from launcher import access
        from launcher.vault import VaultSource

        found.append(VaultSource(access.open_to_read(store)))
    return found if offline else [*found, *default_sources(), *base_sources(lock)]


def compare(lock: Lock, image: Image, cache: Cache, sources: list[Source]) -> list[dict[str, object]]:
    """Return what differs between a lock's image and this one: a layer each, with its paths where they can be told."""
    if lock.image is None or lock.image.id == image.id:
        return []
    pins = {pin.name: pin for pin in lock.image.layers}
    made = {layer.name: layer for layer in image.layers}
    gone: list[dict[str, object]] = [
        {"layer": name, "paths": ["the layer is no longer made"]} for name in pins if name not in made
    ]
    found: list[dict[str, object]] = [
        {"layer": name, "paths": paths(pins.get(name), layer, cache, sources)}
        for name, layer in made.items()
        if name not in pins or pins[name].diff_id != layer.diff_id
    ]
    return [*gone, *found] or [
        {"layer": "config", "paths": ["the layers are the same; their order or the config is not"]}
    ]


def paths(pin: LayerPin | None, layer: Layer, cache: Cache, sources: list[Source]) -> list[str]:
    """Return the paths in which a layer differs from its pin, or a line that says why they can't be told."""
    if pin is None:
        return ["the layer is new"]
    before, after = listing(pin.listing, cache, sources), listing(layer.listing, cache, sources)
    if before is None or after is None:
        return ["its list of files is in neither cache nor vault, so the paths can't be told"]
    found = list(differences(before, after))
    more = [f"and {len(found) - SHOWN_PATHS} more"] if len(found) > SHOWN_PATHS else []
    return [*found[:SHOWN_PATHS], *more]


def listing(sha256: str, cache: Cache, sources: list[Source]) -> bytes | None:
    """Return a layer's list of files from the cache or the vault."""
    from launcher.errors import FetchError, IntegrityError
    from launcher.fetch import fetch
    from launcher.lock import Artifact

    wanted = Artifact(name="listing", version="", filename="list of files", size=0, sha256=sha256)
    vaults = [source for source in sources if source.holds is Artifact]
    try:
        return fetch([wanted], cache, vaults)[sha256].read_bytes()
    except (FetchError, IntegrityError):
        return None


def is_restored(lock: Lock) -> bool:
    """Tell whether a part of the image was executed once, and can't be rebuilt."""
    return lock.base is not None and lock.base.kind == "containerfile"


def report(lock: Lock, image: Image, differing: list[dict[str, object]], as_json: bool) -> None:
    identical = None if lock.image is None else not differing
    if as_json:
        told = {"id": f"sha256:{image.id}", "identical": identical, "restored": is_restored(lock)}
        print_json({**told, "differences": differing})
    elif identical is None:
        print_text(f"built sha256:{image.id}; the lock names no image to compare it with (`launcher lock` adds it)")
    elif identical:
        print_text(f"{'restored' if is_restored(lock) else 'identical'} sha256:{image.id}")
    else:
        assert lock.image
        print_text(f"different: built sha256:{image.id}, the lock says sha256:{lock.image.id}")
        if lock.image.assembler != ASSEMBLER:
            print_text(f"hint: {why_another(lock.image)}")
        for difference in differing:
            print_text(f"layer {difference['layer']}")
            lines = difference["paths"]
            for line in lines if isinstance(lines, list) else ():
                print_text(f"  {line}")
