"""What the cache knows of images that were assembled before: enough to give one again without reading an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from launcher.cache import Cache
from launcher.image.oci import Layer


def note_of(layer: Layer) -> dict[str, object]:
    return {name: value for name, value in asdict(layer).items() if name != "path"}


def noted_layer(cache: Cache, note: object) -> Layer | None:
    """Read a layer's note back; None when it is not a note or the layer is no longer there, whole."""
    if not isinstance(note, dict) or note.keys() != {"rank", "name", "diff_id", "size", "listing"}:
        return None
    path = cache.find("blobs", note["diff_id"])
    listing = cache.find("artifacts", note["listing"])
    return Layer(**note, path=path) if path and listing else None


def noted_layers(cache: Cache, key: str) -> list[Layer] | None:
    """Return the layers of an image that was assembled before, if all of them are still there, whole."""
    note = cache.note("images", key)
    if not isinstance(note, list):
        return None
    layers = [noted_layer(cache, entry) for entry in note]
    return [x for x in layers if x] if all(layers) else None


def note_layers(cache: Cache, key: str, layers: Sequence[Layer]) -> None:
    cache.write_note("images", key, [note_of(x) for x in layers])
