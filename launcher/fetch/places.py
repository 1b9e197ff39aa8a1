"""Where this machine looks for artifacts by itself: Python indexes, Debian mirrors, and the registry of a base."""

from __future__ import annotations

from launcher.indexes.settings import configured
from launcher.indexes.simple import wheel_sources
from launcher.indexes.source import Source
from launcher.lock.model import Lock
from launcher.lock.requirements import IndexOptions


def default_sources(options: IndexOptions | None = None, *, strict: bool = False) -> list[Source]:
    """Return the sources that this machine is configured for; `options` are those of a requirements file.

    `strict` ones refuse remote wheels that have no sha256 on their index: for locking.

    Raises FetchError when a configuration file can't be read.
    """
    from launcher.indexes.apt_source import AptMirror

    return [*wheel_sources(configured(options), strict=strict), AptMirror()]


def base_sources(lock: Lock) -> list[Source]:
    """Return the registry that a lock's base comes from; none when it has no such base, or one that was executed."""
    if lock.base is None or lock.base.kind != "registry":
        return []
    from launcher.registry.reference import parse
    from launcher.registry.source import RegistrySource

    return [RegistrySource(parse(lock.inputs.base), [lock.base.config.sha256, *(x.sha256 for x in lock.base.layers)])]
