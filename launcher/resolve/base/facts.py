"""All that a lock has to know of a base: its system, its C library, its Python and what that has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.cache import Cache
from launcher.errors import FetchError
from launcher.image.base.config import read_config
from launcher.image.base.layers import base_tree
from launcher.image.base.tree import BaseTree
from launcher.lock.model import Base
from launcher.resolve.base.installed import installed
from launcher.resolve.base.python import find_python
from launcher.resolve.base.system import libc_of, os_release, suite_of
from launcher.resolve.stubs import Installed


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A base and what is in it. `env` is what its config sets.

    `python` is the full version of the Python on its PATH and `interpreter` that one's real path, both None without
    one; `installed` are the distributions that this Python has.
    """

    base: Base
    tree: BaseTree
    env: Mapping[str, str]
    suite: str
    libc: str
    python: str | None = None
    interpreter: str | None = None
    installed: tuple[Installed, ...] = ()


def look_into(base: Base, cache: Cache, python: str | None = None) -> Resolved:
    """Read a pinned base whose artifacts and layers are in the cache; `python` is the wanted X.Y.

    Raises ResolveError when it can't be built upon, or has another Python than the wanted one.
    """
    tree = base_tree(base, cache)
    config = cache.find("artifacts", base.config.sha256)
    if config is None:
        raise FetchError(f"the base's config (sha256 {base.config.sha256}) isn't in the cache")
    env = read_config(config).env
    name = f"{base.config.name} {base.config.version}"
    found = find_python(tree, env, python, name)
    return Resolved(
        base=base,
        tree=tree,
        env=env,
        suite=suite_of(os_release(tree)),
        libc=libc_of(tree, name),
        python=found.version if found else None,
        interpreter=found.path if found else None,
        installed=installed(tree, found) if found else (),
    )
