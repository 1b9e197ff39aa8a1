"""What a node keeps of its own on scratch: images, copied once however many tasks begin, and the folders of runs.

Files that nobody uses make way for others, the longest unused first; those in use are held by a shared lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from launcher.cache import Cache
from launcher.digest import CHUNK_BYTES
from launcher.errors import DiskFullError, IntegrityError, LauncherError
from launcher.node.images import Delivered, Sif, is_whole
from launcher.node.order import Order
from launcher.profiles.model import Profile
from launcher.profiles.places import Places

SHARE = 0.5  # of a scratch file system that may be taken by images: what they and the free space are together
OLD_S = 7 * 86400.0  # a run's folder that nobody came back to for so long is removed
log = logging.getLogger(__name__)


class Sited(Protocol):
    """An order of any kind: it knows the site."""

    @property
    def profile(self) -> Profile: ...


def cache_of(order: Order) -> Cache:
    """Return this node's cache: on its scratch, or on the shared folder where it has none that can be written.

    A scratch folder may name variables of the node, such as $TMPDIR or $USER; each user has a folder of their own.
    """
    if order.profile.scratch:
        place = Path(os.path.expandvars(order.profile.scratch), f"launcher-{os.getuid()}")
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Cache(place)
        except (OSError, LauncherError) as e:
            log.warning("the scratch folder %s can't be used (%s): taking the shared folder", place, e)
    return Cache(Path(Places(order.profile.shared).cache(), f"{os.uname().nodename}-{os.getuid()}"))


def sif_of(delivered: Delivered, cache: Cache, order: Sited) -> Path | None:
    """Return the image's SIF: a copy on scratch, or the shared folder's own; None when there is none.

    Raises IntegrityError when the shared folder's is damaged.
    """
    if delivered.sif is None:
        return None
    shared = delivered.folder / "image.sif"
    if not is_whole(shared, delivered.sif):
        hint = "remove its folder and submit again: that sends it anew"
        raise IntegrityError(f"{shared} does not have the {delivered.sif.size} bytes that it should", hint=hint)
    if not order.profile.scratch or cache.root.is_relative_to(order.profile.shared):
        return shared
    try:
        return staged(shared, delivered.sif, cache)
    except (DiskFullError, OSError) as e:
        log.warning("the image stays on the shared folder: %s", e)
        return shared


def staged(source: Path, sif: Sif, cache: Cache) -> Path:
    """Return the copy of a SIF in this node's cache, made when it is missing. One task copies, the others wait.

    Raises IntegrityError, DiskFullError.
    """
    lock = cache.root / "use" / f"{sif.sha256}.lock"
    lock.parent.mkdir(exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # held until this process ends
    os.utime(lock)
    with exclusive(lock.with_suffix(".making")):
        if found := cache.find("blobs", sif.sha256):
            return found
        make_room(cache, sif.size)
        began = time.monotonic()
        with cache.scratch() as scratch:
            copied(source, scratch / "sif", sif)
            path = cache.adopt("blobs", sif.sha256, scratch / "sif")
        log.info("copied the image to this node, %.0f MB in %.1f s", sif.size / 1e6, time.monotonic() - began)
        return path


def copied(source: Path, target: Path, sif: Sif) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as stream, target.open("wb") as out:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != sif.sha256:
        hint = "remove its folder and submit again: that sends it anew"
        raise IntegrityError(f"{source} is damaged: its sha256 is {digest.hexdigest()}", hint=hint)


def make_room(cache: Cache, size: int) -> None:
    """Remove images that nobody uses until there is room for `size` bytes, and they take no more than their share."""
    every = sorted((cache.root / "use").glob("*.lock"), key=lambda path: path.stat().st_mtime)
    sizes = {path: size_of(cache.path("blobs", path.stem)) for path in every}
    space = os.statvfs(cache.root)
    free, taken = space.f_bavail * space.f_frsize, sum(sizes.values())
    for lock in every:
        if size <= free and taken + size <= (taken + free) * SHARE:
            return
        if sizes[lock] and removed(lock, cache):
            free, taken = free + sizes[lock], taken - sizes[lock]


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def removed(lock: Path, cache: Cache) -> bool:
    """Remove an image unless a task uses it."""
    with contextlib.suppress(OSError), lock.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        cache.path("blobs", lock.stem).unlink(missing_ok=True)
        return True
    return False


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    with lock.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def forget_old_runs(cache: Cache, now: float) -> None:
    """Remove folders of runs that went on elsewhere: nobody has come back to them for days, and nobody is in them."""
    import shutil

    from launcher.target.trees import make_removable

    for folder in (cache.root / "runs").glob("*/"):
        with contextlib.suppress(OSError):
            lock = folder.with_suffix(".lock")
            if now - max(folder.stat().st_mtime, (folder / "inside").stat().st_mtime) < OLD_S:
                continue
            with lock.open("a+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                make_removable(folder)
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
