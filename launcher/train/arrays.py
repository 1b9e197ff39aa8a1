"""Arrays as `.npz`, which `numpy.load` reads: nested dicts by paths, and what is no array as JSON beside them.

No pickle is written, so anybody can read the file. The skeleton (see `nesting`) is only there when the state is more
than a flat dict of arrays.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.train.nesting import SKELETON, put_back, taken_out


def numpy() -> Any:
    return importlib.import_module("numpy")


def write(state: Any, path: Path) -> None:
    """Write a state. Raises TypeError for an array that is no plain one of numbers or texts."""
    found: dict[str, Any] = {}
    skeleton = taken_out(state, "", found)
    found = {name: plain(array, name) for name, array in found.items()}
    if not is_flat(state, found):
        found[SKELETON] = numpy().array(json.dumps(skeleton))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in found.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                numpy().lib.format.write_array(stream, array, allow_pickle=False)


def is_flat(state: Any, found: Mapping[str, Any]) -> bool:
    return isinstance(state, Mapping) and list(found) == list(state) and SKELETON not in found


def plain(value: Any, name: str) -> Any:
    """Return an array of numpy that its own format can hold. Raises TypeError."""
    array = numpy().asarray(value)
    if array.dtype.kind == "O" or (array.dtype.kind == "V" and array.dtype.fields is None):
        raise TypeError(
            f"{name.strip('_') or 'the array'} has the type {array.dtype}, which .npz can't hold: save it as "
            "another type, or with a name that ends in .safetensors"
        )
    return array


def read(path: Path) -> Any:
    """Return what `write` wrote, or a dict of arrays from any other `.npz`."""
    with numpy().load(path, allow_pickle=False) as archive:
        found = {name: archive[name] for name in archive.files}
    if SKELETON not in found:
        return found
    return put_back(json.loads(str(found.pop(SKELETON))), found)
