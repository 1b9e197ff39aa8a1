"""Where this machine looks for artifacts by itself: its Python indexes and its Debian mirrors."""

from __future__ import annotations

from launcher.indexes.settings import configured
from launcher.indexes.simple import wheel_sources
from launcher.indexes.source import Source
from launcher.lock.requirements import IndexOptions


def default_sources(options: IndexOptions | None = None, *, strict: bool = False) -> list[Source]:
    """Return the sources that this machine is configured for; `options` are those of a requirements file.

    `strict` ones refuse remote wheels that have no sha256 on their index: for locking.

    Raises FetchError when a configuration file can't be read.
    """
    from launcher.indexes.apt_source import AptMirror

    return [*wheel_sources(configured(options), strict=strict), AptMirror()]
