"""Which package indexes this machine is configured for, from pip's and uv's own settings.

pip's settings go first and uv's fill in what they leave open, because people expect the files that `pip install`
finds; see docs/decisions. Neither ever reaches a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.indexes.pip_settings import pip_settings, truth, words
from launcher.indexes.uv_settings import UvSettings, uv_settings
from launcher.lock.requirements import IndexOptions

BEST_MATCH = "unsafe-best-match"  # pip's way: the best version wins, whichever index has it


@dataclass(frozen=True, kw_only=True)
class Indexes:
    """The package indexes of this machine. URLs may hold logins: they are not in the repr.

    `default` is None when nothing names one: then it is the one that uv is made with.
    """

    default: str | None = field(default=None, repr=False)
    extra: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()
    cert: Path | None = None
    strategy: str = BEST_MATCH
    keyring: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Every place that may hold a login."""
        return (*((self.default,) if self.default else ()), *self.extra, *self.find_links)


def configured(
    options: IndexOptions | None = None, environ: Mapping[str, str] = os.environ, *, etc: Path = Path("/etc")
) -> Indexes:
    """Read this machine's configuration; `options` of a requirements file go before it.

    Raises FetchError when a configuration file can't be read.
    """
    pip, uv, own = pip_settings(environ, etc=etc), uv_settings(environ, etc=etc), options or IndexOptions()
    return Indexes(
        default=own.index_url or pip.get("index-url", "").strip() or uv.default,
        extra=unique(own.extra_index_urls, words(pip.get("extra-index-url", "")), uv.indexes),
        find_links=unique(map(absolute, (*own.find_links, *words(pip.get("find-links", "")), *uv.find_links))),
        no_index=own.no_index or truth(pip.get("no-index", "")) or uv.no_index,
        trusted_hosts=unique(own.trusted_hosts, words(pip.get("trusted-host", "")), uv.insecure_hosts),
        cert=Path(pip["cert"].strip()).expanduser() if "cert" in pip else None,
        strategy=strategy(uv, any(key in pip for key in ("index-url", "extra-index-url", "find-links"))),
        keyring=uv.keyring,
    )


def strategy(uv: UvSettings, pip_speaks: bool) -> str:
    """pip's way of choosing, unless only uv is configured and says another."""
    return BEST_MATCH if pip_speaks or not uv.strategy else uv.strategy


def absolute(place: str) -> str:
    """Make a folder absolute; a URL stays."""
    return place if "://" in place or place.startswith("file:") else str(Path(place).expanduser().absolute())


def unique(*lists: Iterable[str]) -> tuple[str, ...]:
    """Join lists of places; each is asked once, where it stands first."""
    return tuple(dict.fromkeys(place for places in lists for place in places))
