"""How state becomes a file and comes back: by what it is made of, or by the suffix that was asked for."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from launcher.train import arrays, nesting

Write = Callable[[Path], None]
KNOWN = (
    "tensors, arrays, dicts and lists of them, what JSON can say, bytes, a path, or a function that writes to a path"
)


def writer(state: Any, name: str | None) -> tuple[Write, str]:
    """Return what writes a state to a path, and the suffix that tells how. Raises TypeError."""
    if isinstance(state, os.PathLike):
        return partial(copy, state), "" if name else Path(state).suffix
    if hasattr(state, "state_dict"):
        raise TypeError(f"a {type(state).__name__} isn't saved whole: save its .state_dict()")
    if callable(state):
        return partial(call, state), ""
    suffix = wanted(name) or guessed(state)
    return partial(WRITERS[suffix], state), suffix


def wanted(name: str | None) -> str | None:
    """Return the suffix of a name if it is one that means a format."""
    suffix = Path(name).suffix if name else ""
    return suffix if suffix in WRITERS else None


def guessed(state: Any) -> str:
    """Return the suffix of the simplest format that holds a state. Raises TypeError."""
    if isinstance(state, (bytes, bytearray, memoryview)):
        return ".bin"
    kinds = set(map(kind, leaves(state)))
    if kinds <= {"plain", "array"} and nesting.fits(state):
        return ".npz" if "array" in kinds else ".json"
    if "torch" in sys.modules:
        return ".pt"
    odd = next(
        (f"a {type(leaf).__name__}" for leaf in leaves(state) if kind(leaf) == "other"), "keys that are no texts"
    )
    raise TypeError(f"save() doesn't know how to write {odd}; it knows {KNOWN}")


def leaves(state: Any) -> list[Any]:
    """Return everything in nested dicts, lists and tuples that is none of these."""
    if isinstance(state, Mapping):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        return [leaf for value in state for leaf in leaves(value)]
    return [state]


def kind(leaf: Any) -> str:
    if leaf is None or isinstance(leaf, (str, int, float, bool)):
        return "plain"
    if type(leaf).__module__.partition(".")[0] == "torch":
        return "tensor"
    return "array" if hasattr(leaf, "__array__") else "other"


def call(function: Callable[[Path], object], path: Path) -> None:
    function(path)


def copy(source: os.PathLike[str], path: Path) -> None:
    if Path(source).is_dir():
        shutil.copytree(source, path, symlinks=True)
    else:
        shutil.copyfile(source, path)


def write_bytes(state: Any, path: Path) -> None:
    path.write_bytes(state)


def write_json(state: Any, path: Path) -> None:
    path.write_text(json.dumps(nesting.taken_out(state, "", {})), encoding="utf-8")


def write_torch(state: Any, path: Path) -> None:
    importlib.import_module("torch").save(state, path)


def write_safetensors(state: Any, path: Path) -> None:
    """Write a flat dict of tensors or arrays. Raises TypeError, ImportError where safetensors is not installed."""
    if not isinstance(state, Mapping) or not state:
        raise TypeError("safetensors holds a dict of tensors, and nothing else")
    flavour = "torch" if kind(next(iter(state.values()))) == "tensor" else "numpy"
    importlib.import_module(f"safetensors.{flavour}").save_file(dict(state), path)


def read_safetensors(path: Path, device: str) -> Any:
    if "torch" in sys.modules:
        return importlib.import_module("safetensors.torch").load_file(path, device=device)
    return importlib.import_module("safetensors.numpy").load_file(path)


def read_torch(path: Path, device: str) -> Any:
    # optimizers, generators and numpy's state are more than weights; the file is this run's own, checked by sha256
    return importlib.import_module("torch").load(path, map_location=device, weights_only=False)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    ".bin": write_bytes,
    ".json": write_json,
    ".npz": arrays.write,
    ".pt": write_torch,
    ".pth": write_torch,
    ".safetensors": write_safetensors,
}
READERS: dict[str, Callable[[Path, str], Any]] = {
    ".bin": lambda path, device: path.read_bytes(),
    ".json": lambda path, device: nesting.put_back(json.loads(path.read_text(encoding="utf-8")), {}),
    ".npz": lambda path, device: arrays.read(path),
    ".pt": read_torch,
    ".pth": read_torch,
    ".safetensors": read_safetensors,
}
