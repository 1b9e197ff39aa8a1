"""What a box is told of an image, in JSON's own types: all but the layers' bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.image.oci import Image, Layer


def image_json(image: Image) -> dict[str, Any]:
    layers = [{"diff_id": x.diff_id, "size": x.size, "name": x.name} for x in image.layers]
    return {"id": image.id, "config": image.config.decode(), "manifest": image.manifest.decode(), "layers": layers}


def image_from(told: Mapping[str, Any]) -> Image:
    """Read it back; its layers have no files."""
    layers = tuple(Layer(**one, rank=0, listing="", path=Path("/")) for one in told["layers"])
    return Image(id=told["id"], config=told["config"].encode(), manifest=told["manifest"].encode(), layers=layers)
