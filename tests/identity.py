"""Builds a lock and prints every digest of the image: run by other interpreters, in other surroundings.

    python -m tests.identity LOCK CACHE ARTIFACT...

An artifact's file is named by its sha256.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from launcher.cache import Cache
from launcher.image import Image, build
from launcher.image.export import checked_chunks
from launcher.image.sif import sif
from launcher.lock import load


def facts(image: Image, cache: Cache | None = None) -> list[str]:
    """Return every digest that an image has; with its cache, that of its SIF too."""
    manifest = hashlib.sha256(image.manifest).hexdigest()
    archive = hashlib.sha256(b"".join(checked_chunks(image))).hexdigest()
    files = [hashlib.sha256(sif(image, cache).read_bytes()).hexdigest()] if cache else []
    return [image.id, manifest, archive, *files, *(layer.diff_id for layer in image.layers)]


def main(lock: str, folder: str, *artifacts: str) -> None:
    cache = Cache(Path(folder))
    for path in map(Path, artifacts):
        copy = cache.root / "copy"
        copy.write_bytes(path.read_bytes())
        cache.adopt("artifacts", path.name, copy)
    print("ready", flush=True)
    print("\n".join(facts(build(load(Path(lock)), cache), cache)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
