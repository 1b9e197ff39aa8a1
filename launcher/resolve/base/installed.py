"""What a base's Python has installed already: it counts when requirements are resolved, and is never replaced.

Source: PyPA, "Recording installed projects"; PEP 566 metadata; Debian's Python policy for dist-packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.parser import HeaderParser

from launcher.image.base.tree import BaseTree
from launcher.image.wheel import ENV
from launcher.resolve.base.python import Interpreter
from launcher.resolve.stubs import Installed

METADATA = {"dist-info": "METADATA", "egg-info": "PKG-INFO"}
DEBIAN = "usr/lib/python3/dist-packages"


def installed(tree: BaseTree, python: Interpreter) -> tuple[Installed, ...]:
    """Return the distributions that the interpreter sees, by name; of two, the one that it imports."""
    found: dict[str, Installed] = {}
    for folder in folders(tree, python):
        for each in in_folder(tree, folder):
            found.setdefault(each.name, each)
    return tuple(found[name] for name in sorted(found))


def hidden(tree: BaseTree) -> tuple[Installed, ...]:
    """Return the distributions of a base's own /opt/env, by name: the image's environment hides them."""
    libraries = [f"{ENV}/lib/{name}/site-packages" for name in tree.names(f"{ENV}/lib")]
    found = {each.name: each for folder in libraries for each in in_folder(tree, folder)}
    return tuple(found[name] for name in sorted(found))


def folders(tree: BaseTree, python: Interpreter) -> list[str]:
    """Return where an interpreter looks for packages, in its order."""
    name = f"python{python.short}"
    if python.prefix == "usr" and tree.exists(DEBIAN):
        return [f"usr/local/lib/{name}/dist-packages", DEBIAN, f"usr/lib/{name}/dist-packages"]
    local = [f"usr/local/{lib}/{name}/site-packages" for lib in ("lib64", "lib")] if python.prefix == "usr" else []
    own = [f"{python.prefix}/{lib}/{name}/site-packages" for lib in ("lib64", "lib")]
    return [folder for folder in (*local, *own) if tree.exists(folder)]


def in_folder(tree: BaseTree, folder: str) -> Iterator[Installed]:
    for name in tree.names(folder):
        ending = name.rpartition(".")[2]
        if ending not in METADATA:
            continue
        text = tree.text(f"{folder}/{name}/{METADATA[ending]}")
        if text is None and ending == "egg-info":
            text = tree.text(f"{folder}/{name}")  # a single file, as distutils wrote it
        if text and (each := read(text)):
            yield each


def read(text: str) -> Installed | None:
    """Read a distribution's metadata; None when it has no name or no version that packaging knows."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    headers = HeaderParser().parsestr(text)
    try:
        name, version = canonicalize_name(headers["Name"] or ""), str(Version(headers["Version"] or ""))
    except InvalidVersion:
        return None
    extras = tuple(headers.get_all("Provides-Extra") or ())
    requires = tuple(line for line in headers.get_all("Requires-Dist") or () if "extra" in line.partition(";")[2])
    return Installed(name=name, version=version, extras=extras, requires=requires) if name else None
