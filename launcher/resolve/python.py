"""Python requirements to pinned wheels, for the image's Python and libc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.cache import Cache
from launcher.errors import ResolveError
from launcher.indexes.settings import Indexes, configured
from launcher.lock.model import Wheel
from launcher.progress import SILENT, Progress
from launcher.resolve.folders import marks, remember, with_hashes
from launcher.resolve.platform import platform
from launcher.resolve.pylock import select
from launcher.resolve.stubs import Installed, explained, split_installed, without, write_stubs
from launcher.resolve.stubs import constraints as pinned
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
    installed: Sequence[Installed] = (),
    cache: Cache,
    progress: Progress = SILENT,
) -> tuple[Wheel, ...]:
    """Pin requirements (PEP 508) for a Python such as "3.11.2" on "glibc 2.36" and "amd64".

    Pins of `previous` are kept unless `upgrade` lets them go. A size that the index doesn't tell is 0. What is
    `installed` in the image's base stays there and is no wheel of ours, unless a requirement rules its version out:
    then another is put over it.

    Raises ResolveError when the requirements can't be met by wheels with a sha256, ProcessError without uv.
    """
    if not requirements:
        return ()
    target, indexes = platform(python, libc, architecture), indexes or configured()
    known = marks(indexes)
    there, over = split_installed(installed, [*requirements, *constraints])
    for each in over:
        progress.note(f"the base has {each.name} {each.version}, and another version was asked for: it lies over it")
    with cache.scratch() as folder, progress.task("resolve Python requirements", None, "packages"):
        places = with_hashes(indexes, known, folder, cache)
        if there:
            stubs = str(write_stubs(there, folder / "installed"))
            places = replace(places, find_links=(stubs, *places.find_links))
            constraints = [*constraints, *pinned(there)]
        try:
            raw = compile_requirements(folder, requirements, constraints, target, places, previous, upgrade)
        except ResolveError as e:
            raise explained(e, there) from e
    raw = without(raw, there)
    kept = () if upgrade.all else tuple(wheel for wheel in previous if wheel.name not in upgrade.packages)
    wheels = select(raw, target, kept)
    remember(wheels, known, cache)
    return wheels
