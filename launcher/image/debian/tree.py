"""Debian packages to the file tree of a working system: unpack, lay over each other, apply the rules."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ImageError
from launcher.image.base.tree import BaseTree
from launcher.image.deb import Package, unpack
from launcher.image.debian.diversions import diversions_of
from launcher.image.debian.layout import layout_of, merged_usr
from launcher.image.debian.merge import in_order, merge
from launcher.image.debian.over_base import base_diversions, entries_of, lay_over
from launcher.image.debian.rules import RULES
from launcher.image.debian.system import System
from launcher.image.tree import Entry
from launcher.lock.model import Deb


@dataclass(frozen=True, kw_only=True)
class DebianTree:
    """The whole tree: real path -> entry, and path -> name of the package that owns it ("" is what rules made)."""

    entries: dict[str, Entry]
    owners: dict[str, str]


def compose(
    debs: Sequence[tuple[Deb, Path]], scratch: Path, *, workers: int = 2, base: BaseTree | None = None
) -> DebianTree:
    """Make the tree of a Debian system from its packages' files, executing nothing.

    The order of `debs` doesn't matter, nor does the number of `workers`. Contents point into files in `scratch`,
    which must live as long as the tree. Over a base image its files are in the tree too, owned by OF_BASE.
    Raises ImageError when a package is damaged or hostile, when two packages are of one name or claim one path, when
    one claims a path of the base, or when their architectures differ.
    """
    architecture = one_architecture([deb for deb, _ in debs])
    packages = in_order(unpack_all(debs, scratch, workers))
    below = entries_of(base) if base else None
    layout = layout_of(packages, architecture, below)
    diversions = diversions_of(packages)
    entries, owners = merge(packages, layout, [*(base_diversions(base) if base else ()), *diversions])
    if base and below is not None:
        entries, owners = lay_over(below, entries, owners, packages, diversions, layout, base)
    named = {package.name: package for package in packages}
    system = System(entries=entries, owners=owners, packages=named, architecture=architecture, base=base)
    if base is None:
        merge_usr(system)
    for rule in RULES:
        rule(system)
    return DebianTree(entries=system.entries, owners=system.owners)


def unpack_all(debs: Sequence[tuple[Deb, Path]], scratch: Path, workers: int) -> list[Package]:
    """Unpack in threads, the biggest first: decompression releases the interpreter's lock."""
    ordered = sorted(debs, key=lambda pair: (-pair[0].size, pair[0].name))

    def attempt(pair: tuple[Deb, Path]) -> Package | ImageError:
        try:
            return unpack(*pair, scratch)
        except ImageError as e:
            return e

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        done = list(pool.map(attempt, ordered))
    if problems := [problem for result in done if isinstance(result, ImageError) for problem in result.problems]:
        raise ImageError.of(sorted(problems, key=str))
    return [result for result in done if isinstance(result, Package)]


def one_architecture(debs: Sequence[Deb]) -> str:
    """Return the architecture of the system. Raises ImageError when packages don't fit together."""
    names = [deb.name for deb in debs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ImageError(f"two packages are named {twice[0]}", hint="one image holds one version of a package")
    found = sorted({deb.architecture for deb in debs} - {"all"})
    if len(found) > 1:
        raise ImageError(f"packages of {' and '.join(found)} can't be in one image")
    return found[0] if found else "all"


def merge_usr(system: System) -> None:
    """Make the links of a merged /usr; they never change, so they lie with base-files."""
    owner = "base-files" if "base-files" in system.packages else ""
    for name, target in merged_usr(system.architecture).items():
        if name not in system.entries:
            system.link(name, target, owner)
        system.folder(target, owner=owner)
