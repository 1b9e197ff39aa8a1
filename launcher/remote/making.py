"""Makes a SIF of the layers that were sent, on the login node: `python -m launcher.remote.making SHARED IMAGE`.

image.json came without a word about a SIF. It learns what the SIF should be before that gets its name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from launcher.cache import Cache, disk_full, written_whole
from launcher.image.sif import write_output
from launcher.node.images import Delivered, Sif, read, to_json
from launcher.profiles.places import Places
from launcher.progress import SILENT

ROOM = "free some there; nothing half was kept"


def make(shared: str, image: str) -> None:
    """Write image.sif, and what it is into image.json.

    Raises TargetError, DiskFullError, and IntegrityError when a layer was damaged.
    """
    places = Places(shared)
    delivered = read(shared, image)
    final, cache = Path(places.image(image, "image.sif")), Cache(Path(places.cache(), "making"))
    with disk_full(final.parent, ROOM), written_whole(final) as part:
        sha256 = write_output(delivered.image, "sif", part, cache, SILENT)
        describe(delivered, Sif(sha256=sha256, size=part.stat().st_size))


def describe(delivered: Delivered, sif: Sif) -> None:
    with written_whole(delivered.folder / "image.json") as part:
        part.write_bytes(to_json(delivered.image, delivered.accounts, sif))


if __name__ == "__main__":
    sys.tracebacklimit = 0  # whoever sent this reads what went wrong, and not where in here
    make(sys.argv[1], sys.argv[2])
