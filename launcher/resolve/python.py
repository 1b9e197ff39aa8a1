"""Python requirements to pinned wheels, for the image's Python and libc."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.cache import Cache
from launcher.indexes.settings import Indexes, configured
from launcher.lock.model import Wheel
from launcher.progress import SILENT, Progress
from launcher.resolve.folders import marks, remember, with_hashes
from launcher.resolve.platform import platform
from launcher.resolve.pylock import select
from launcher.resolve.upgrade import KEEP, Upgrade
from launcher.resolve.uv import compile_requirements


def resolve_python(
    requirements: Sequence[str],
    *,
    constraints: Sequence[str] = (),
    python: str,
    libc: str,
    architecture: str,
    previous: tuple[Wheel, ...] = (),
    upgrade: Upgrade = KEEP,
    indexes: Indexes | None = None,
    cache: Cache,
    progress: Progress = SILENT,
) -> tuple[Wheel, ...]:
    """Pin requirements (PEP 508) for a Python such as "3.11.2" on "glibc 2.36" and "amd64".

    Pins of `previous` are kept unless `upgrade` lets them go. A size that the index doesn't tell is 0.

    Raises ResolveError when the requirements can't be met by wheels with a sha256, ProcessError without uv.
    """
    if not requirements:
        return ()
    target, indexes = platform(python, libc, architecture), indexes or configured()
    known = marks(indexes)
    with cache.scratch() as folder, progress.task("resolve Python requirements", None, "packages"):
        places = with_hashes(indexes, known, folder, cache)
        raw = compile_requirements(folder, requirements, constraints, target, places, previous, upgrade)
    kept = () if upgrade.all else tuple(wheel for wheel in previous if wheel.name not in upgrade.packages)
    wheels = select(raw, target, kept)
    remember(wheels, known, cache)
    return wheels
