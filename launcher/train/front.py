"""Stands in every container at /opt/launcher/lib/launcher/__init__.py, for `from launcher import train`.

That folder comes last in PYTHONPATH, but before site-packages. So this looks whether the image, or the user's code,
has a `launcher` of its own, and steps back for it: theirs is what gets imported, and only `launcher.train` is added
where theirs has none. A folder without `__init__.py` is shared as Python shares such folders (PEP 420).
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder


def others(own: str) -> ModuleSpec | None:
    """Return what `import launcher` would find if this folder were not in sys.path."""
    return PathFinder.find_spec("launcher", [place for place in sys.path if f"{place}/launcher" != own])


def step_back(found: ModuleSpec, own: str) -> None:
    """Put their module in this one's place, with our folder behind its own."""
    module = importlib.util.module_from_spec(found)
    sys.modules["launcher"] = module
    assert found.loader is not None
    found.loader.exec_module(module)
    if hasattr(module, "__path__"):
        module.__path__.append(own)


def enter(own: str) -> None:
    found = others(own)
    if found is None:
        return
    if found.loader is not None and found.origin is not None:
        step_back(found, own)
    else:
        sys.modules[__name__].__path__[:0] = list(found.submodule_search_locations or ())


if __name__ == "launcher":
    enter(sys.modules[__name__].__path__[0])
