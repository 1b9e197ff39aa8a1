"""No libcuda in an image, ever: it is half of the driver, and the other half is the node's kernel module.

A container runtime mounts the node's own libcuda.so.1. One that is in the image may be found first and then fails with
"driver/library version mismatch". Stubs to link against (in a folder `stubs`) are on no loader's path, and stay.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from launcher.errors import ImageError, Problem, ResolveError
from launcher.image.base.tree import BaseTree
from launcher.lock.model import Deb, Wheel
from launcher.progress import SILENT, Progress

LIBRARY = re.compile(r"libcuda(-[0-9a-f]{8})?\.so(\.\d+)*")  # with the hash that auditwheel gives what it takes along
PACKAGES = re.compile(
    r"libcuda1(:.+|-.+)?|libnvidia-(legacy-\w+-|tesla-(\w+-)?)?cuda1|libnvidia-compute(-.+)?|cuda-compat(-.+)?"
    r"|nvidia-(legacy-\w+-|tesla-(\w+-)?)?driver(-.+)?|cuda-drivers(-.+)?"
)
"""Packages of Debian (non-free), Ubuntu (restricted) and NVIDIA that hold libcuda.so.1 or pull it in."""
LOADED = ("usr/lib", "usr/lib64", "lib", "lib64")
WHY = "the driver's library belongs to the node, whose runtime mounts it; in an image it would hide the right one"


def refuse_driver(
    wheels: Sequence[Wheel],
    debs: Sequence[Deb],
    paths: Mapping[str, Path],
    tree: BaseTree | None = None,
    progress: Progress = SILENT,
) -> None:
    """Raise ResolveError when a wheel or a package would bring libcuda, ImageError when the base has it.

    A base's packages for forward compatibility, which no loader's path names, are told of and stay: nothing uses them.
    """
    problems = [*carried(wheels, paths), *packaged(debs)]
    if problems:
        raise ResolveError.of(problems)
    for place in in_tree(tree) if tree else ():
        if str(PurePosixPath(place).parent) in LOADED or re.fullmatch(r"(usr/)?lib/[^/]+-linux-gnu/[^/]+", place):
            hint = "remove it in a Containerfile, or take a base without a driver"
            raise ImageError(f"the base has /{place}: {WHY}", hint=hint)
        progress.note(f"the base has /{place}, which nothing in the image uses: the node's driver is used as it is")


def carried(wheels: Iterable[Wheel], paths: Mapping[str, Path]) -> Iterator[Problem]:
    for wheel in wheels:
        for name in names_of(paths[wheel.sha256]):
            if is_library(name):
                hint = f"take another version or build of {wheel.name}, and tell its makers"
                yield Problem(message=f"{wheel.filename} has {name}: {WHY}", hint=hint)


def names_of(path: Path) -> list[str]:
    """Return a wheel's names; none for what is no zip archive: unpacking it says so in better words."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError):
        return []


def packaged(debs: Iterable[Deb]) -> Iterator[Problem]:
    for deb in debs:
        if PACKAGES.fullmatch(deb.name):
            hint = "leave it out of image.apt: images need CUDA's runtime libraries and no driver"
            yield Problem(message=f"the Debian package {deb.name} {deb.version} is of the driver: {WHY}", hint=hint)


def in_tree(tree: BaseTree) -> list[str]:
    """Return where a base has the library; empty files, which a runtime's mounts leave behind, don't count."""
    return [path for path, entry in tree.entries.items() if is_library(path) and entry.kind == "file" and entry.size]


def is_library(path: str) -> bool:
    place = PurePosixPath(path)
    return LIBRARY.fullmatch(place.name) is not None and "stubs" not in place.parts
