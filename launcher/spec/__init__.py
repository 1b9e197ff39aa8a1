"""The spec: what a person wants. `load` reads and checks one; the nouns are in `launcher.spec.model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.spec.model import Spec


def load(path: str | Path) -> Spec:
    """Read and check a spec.

    Raises SpecError, with every problem that was found, each with its line and column.
    """
    # Imported late: the runner and the command line's frame need the nouns only, not YAML.
    from launcher.spec.loader import load as read

    return read(path)


__all__ = ["load"]
