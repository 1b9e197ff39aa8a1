"""Asks this machine and the store for the facts that a check compares: every question is bounded.

Nothing is changed here. A bucket shows only by writing whether it can be written: that is taken back.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher import access as accesses
from launcher import store as stores
from launcher.cache import Cache
from launcher.errors import LauncherError, StoreError
from launcher.gpu.model import Node
from launcher.gpu.probe import probe
from launcher.lock.model import Lock
from launcher.process import run
from launcher.target import architecture
from launcher.target.facts import Facts, RuntimeFact
from launcher.target.model import Runtime
from launcher.target.sandbox import refusal as sandbox

VERSION_S = 5.0  # for a program to tell its version
DOTTED = re.compile(r"\d+(\.\d+)+\S*")


def survey(
    lock: Lock,
    cache: Cache,
    runtimes: Sequence[Runtime],
    *,
    store: str | None = None,
    data: Mapping[str, Path] | None = None,
    gpus: bool = True,
    whole: bool = True,
) -> Facts:
    """Return this machine's facts for a lock, a store's URL and the places of inputs.

    Without `whole` it stops at the first runtime that works, and asks no program for its version; without `gpus` the
    driver is not asked: `run` needs no more, and has to be quick.
    """
    asked = asked_store(store, cache, whole) if store else StoreFact()
    return Facts(
        target="local",
        architecture=architecture.here(),
        node=probe() if gpus else Node(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        place=str(cache.root),
        disk_free_bytes=free_bytes(cache.root),
        absent_bytes=absent_bytes(lock, cache),
        runtimes=asked_runtimes(runtimes, whole),
        user_namespaces=sandbox.setting() or "",
        store=store,
        store_problem=asked.problem,
        store_hint=asked.hint,
        clock_offset_s=asked.clock_offset_s,
        data={name: unreadable(path) for name, path in (data or {}).items()},
    )


def asked_runtimes(runtimes: Sequence[Runtime], whole: bool) -> tuple[RuntimeFact, ...]:
    found: list[RuntimeFact] = []
    for runtime in runtimes:
        reason = runtime.refusal()
        version = version_of(runtime.name) if whole and reason is None else None
        found.append(RuntimeFact(name=runtime.name, refusal=reason, version=version))
        if reason is None and not whole:
            break
    return tuple(found)


def version_of(name: str) -> str | None:
    """Return a runtime's version; the sandbox is the kernel's own."""
    if name == "sandbox":
        return f"on Linux {os.uname().release}"
    with contextlib.suppress(LauncherError):
        said = run([name, "--version"], timeout_s=VERSION_S, check=False).stdout.decode(errors="replace")
        if match := DOTTED.search(said):
            return match.group().rstrip(",")
    return None


def free_bytes(place: Path) -> int | None:
    """Return what an ordinary user may still write where this folder is, or will be."""
    try:
        found = os.statvfs(nearest(place))
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def absent_bytes(lock: Lock, cache: Cache) -> int | None:
    """Return how much a lock's image will still take here: artifacts, layers, and the folders they unpack to."""
    if lock.image is None:
        return None
    layers = [layer for layer in lock.image.layers if not cache.path("blobs", layer.diff_id).exists()]
    trees = [layer for layer in lock.image.layers if not (cache.root / "trees" / layer.diff_id).exists()]
    artifacts = [x for x in lock.artifacts if layers and not cache.path("artifacts", x.sha256).exists()]
    return sum(layer.size for layer in [*layers, *trees]) + sum(artifact.size for artifact in artifacts)


class StoreFact(NamedTuple):
    """Why a store can't be used and what to do, None where it can; how many seconds our clock is ahead of its."""

    problem: str | None = None
    hint: str | None = None
    clock_offset_s: float | None = None


def asked_store(place: str, cache: Cache, whole: bool) -> StoreFact:
    try:
        if (folder := stores.folder_of(place)) is not None:
            return asked_folder(Path(folder))
        return asked_bucket(place, cache, whole)
    except LauncherError as e:
        return StoreFact(e.problems[0].message, e.problems[0].hint)


def asked_bucket(place: str, cache: Cache, whole: bool) -> StoreFact:
    """Ask whether it answers and creates conditionally, and if `whole` what time it is there. Raises StoreError."""
    from launcher.access.reach import reach

    found = reach(accesses.of(place), cache)
    if found.verdict == "refused":
        return StoreFact(found.says, found.hint)
    if not whole:
        return StoreFact()
    before = time.time()
    try:
        there = accesses.open(place).now().timestamp()
    except StoreError:
        return StoreFact()
    return StoreFact(clock_offset_s=offset_s(there, before, time.time()))


def offset_s(there: float, before: float, after: float) -> float:
    """Return how far ahead our clock is at least: the store told whole seconds, at some moment of the request."""
    if before > there + 1:
        return before - (there + 1)
    return min(0.0, after - there)


def asked_folder(folder: Path) -> StoreFact:
    try:
        if not folder.exists():
            above = nearest(folder)
            return StoreFact(None if above.is_dir() and os.access(above, os.W_OK) else f"{above} can't be written")
        with tempfile.TemporaryFile(dir=folder) as file:
            return StoreFact(clock_offset_s=time.time() - os.fstat(file.fileno()).st_mtime)
    except OSError as e:
        return StoreFact(e.strerror or str(e))


def nearest(place: Path) -> Path:
    """Return the folder, or the lowest one above it that exists."""
    return next((path for path in (place, *place.parents) if path.exists()), Path("/"))


def unreadable(path: Path) -> str:
    """Return why an input can't be used, "" when it can."""
    if not path.exists():
        return f"there is no {path}"
    return "" if os.access(path, os.R_OK) else f"{path} can't be read"
