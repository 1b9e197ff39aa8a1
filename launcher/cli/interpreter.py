"""Whether an image over a base has the python3 that launcher's runner starts with: told before anything starts."""

from __future__ import annotations

from posixpath import join
from typing import TYPE_CHECKING

from launcher.errors import TargetError
from launcher.findings import Finding

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.lock import Lock

RUNNER = "python3"
SUBJECT = "python"
HINT = "`image: {python: X.Y}` in the spec adds it to a Debian or Ubuntu base; else take a base that has Python"


def finding(lock: Lock, cache: Cache) -> Finding | None:
    """Say whether the image can start launcher's runner; None where it surely can.

    A lock with a Python of its own says so itself; else the base is looked into, once it is in the cache.
    """
    from launcher.cli.executed import missing

    if lock.base is None or lock.python or any(deb.name == RUNNER for deb in lock.debs):
        return None
    name = f"{lock.base.config.name} {lock.base.config.version}"
    if missing((lock.base.config, *lock.base.layers), cache):
        says = f"whether {name} has the {RUNNER} that starts a run is seen when it is here"
        return Finding(subject=SUBJECT, verdict="unknown", says=says)
    if has_python(lock, cache):
        return None
    says = f"{name} has no {RUNNER} on its PATH, and a run starts with it (building and pushing need none)"
    return Finding(subject=SUBJECT, verdict="refused", says=says, hint=HINT)


def has_python(lock: Lock, cache: Cache) -> bool:
    """Look for the program on the PATH that a container of the image gets. The base has to be in the cache."""
    from launcher.resolve.base.facts import look_into
    from launcher.resolve.base.python import DEFAULT_PATH

    assert lock.base is not None
    found = look_into(lock.base, cache)
    path = lock.env.get("PATH") or found.env.get("PATH") or DEFAULT_PATH
    return any(found.tree.exists(join(folder, RUNNER)) for folder in path.split(":") if folder)


def refuse_without_python(lock: Lock, cache: Cache) -> None:
    """Raise TargetError when the base, now in the cache, has no Python."""
    found = finding(lock, cache)
    if found and found.verdict == "refused":
        raise TargetError(found.says, hint=found.hint)
