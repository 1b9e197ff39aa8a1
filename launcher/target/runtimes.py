"""Which runtime a container gets: the one that was named, or the first that works here.

The sandbox comes first: it starts in milliseconds, needs no daemon, no rights that amount to root's, and no image
is copied into an engine first (torch's is 800 MB). The others follow where a kernel forbids it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from launcher.cache import Cache
from launcher.errors import UsageError
from launcher.target.model import Runtime

VARIABLE = "LAUNCHER_RUNTIME"


def sandbox(cache: Cache) -> Runtime:
    from launcher.target.sandbox.runtime import Sandbox

    return Sandbox(cache)


def docker(cache: Cache) -> Runtime:
    from launcher.target.docker import Docker

    return Docker()


def podman(cache: Cache) -> Runtime:
    from launcher.target.podman import Podman

    return Podman(cache)


def apptainer(cache: Cache) -> Runtime:
    from launcher.target.apptainer import Apptainer

    return Apptainer(cache)


RUNTIMES: dict[str, Callable[[Cache], Runtime]] = {
    "sandbox": sandbox,
    "docker": docker,
    "podman": podman,
    "apptainer": apptainer,
}


def choose(name: str | None, cache: Cache) -> list[Runtime]:
    """Return the runtimes to try, in order. Raises UsageError for one that there is not."""
    wanted = name or os.environ.get(VARIABLE)
    if not wanted:
        return [make(cache) for make in RUNTIMES.values()]
    if wanted not in RUNTIMES:
        where = "--runtime" if name else VARIABLE
        raise UsageError(f"{where}: there is no runtime `{wanted}`", hint=f"there are {', '.join(RUNTIMES)}")
    return [RUNTIMES[wanted](cache)]
