"""Write a lock: TOML whose bytes depend on the lock's values and on nothing else.

Written by hand, because a lock is known by the sha256 of its bytes: no release of a TOML library may change them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from launcher.digest import sha256_bytes
from launcher.gpu.model import Gpu
from launcher.lock.model import Artifact, Base, ImagePin, Inputs, Lock

HEADER = """\
# Written by `launcher lock`: what the spec beside it means, every artifact by its sha256.
# Keep it under version control. Change the spec and lock again rather than edit this file.
"""
ARTIFACT_KEYS = ("name", "version", "architecture", "group", "filename", "pool", "size", "sha256", "sdist", "builder")
BLOB_KEYS = ("name", "version", "filename", "media_type", "size", "sha256", "diff_id", "unpacked")
GPU_KEYS = ("cuda", "cudart", "cudnn", "nccl", "driver", "driver_exact")
CODE_KEYS = ("name", "version", "cubins", "ptx", "source")
DATA_KEYS = ("name", "kind", "size", "sha256")
LAYER_KEYS = ("name", "diff_id", "size", "listing")


def dumps(lock: Lock) -> str:
    """Serialise a lock. Artifacts and data are sorted by name, so that the same lock gives the same bytes."""
    return HEADER + "".join(f"\n{block}" for block in blocks(lock))


def digest(lock: Lock) -> str:
    """Return the sha256 of the lock file's bytes."""
    return sha256_bytes(dumps(lock).encode())


def blocks(lock: Lock) -> Iterator[str]:
    """Yield the tables of the file in their order."""
    yield lines(vars(lock), ("version", "suite", "architecture", "python", "interpreter", "libc"))
    yield "[inputs]\n" + inputs(lock.inputs)
    if lock.base:
        yield from base(lock.base)
    if lock.gpu:
        yield from gpu(lock.gpu)
    if lock.env:
        yield "[env]\n" + lines(lock.env, sorted(lock.env))
    for pin in sorted(lock.data, key=lambda pin: pin.name):
        yield "[[data]]\n" + lines(vars(pin), DATA_KEYS)
    for deb in by_name(lock.debs):
        yield "[[deb]]\n" + lines(vars(deb), ARTIFACT_KEYS)
    for wheel in by_name(lock.wheels):
        yield "[[wheel]]\n" + lines(vars(wheel), ARTIFACT_KEYS)
    if lock.image:
        yield from image(lock.image)


def inputs(values: Inputs) -> str:
    """Return what was asked for, one list item on a line."""
    own = {**vars(values), "base": values.base or None}  # none where a Containerfile takes its place
    text = lines(own, ("base", "containerfile", "platform", "python", "build_base"))
    for key in ("apt", "pip", "constraints", "build", "build_apt"):
        if items := getattr(values, key):
            text += f"{key} = [\n" + "".join(f"    {quoted(item)},\n" for item in items) + "]\n"
    return text


def base(value: Base) -> Iterator[str]:
    """Yield the base's tables; layers keep their stacking order."""
    yield "[base]\n" + lines(vars(value), ("kind", "manifest", "system"))
    yield "[base.config]\n" + lines(vars(value.config), ARTIFACT_KEYS)
    for layer in value.layers:
        yield "[[base.layer]]\n" + lines(vars(layer), BLOB_KEYS)


def gpu(value: Gpu) -> Iterator[str]:
    yield "[gpu]\n" + lines(vars(value), GPU_KEYS)
    for code in value.code:
        yield "[[gpu.code]]\n" + lines(vars(code), CODE_KEYS)


def image(pin: ImagePin) -> Iterator[str]:
    """Yield the image's tables; layers keep their stacking order."""
    yield "[image]\n" + lines(vars(pin), ("assembler", "id"))
    for layer in pin.layers:
        yield "[[image.layer]]\n" + lines(vars(layer), LAYER_KEYS)


def by_name(artifacts: Iterable[Artifact]) -> list[Artifact]:
    return sorted(artifacts, key=lambda artifact: (artifact.name, artifact.version, artifact.sha256))


def lines(values: Mapping[str, object], keys: Iterable[str]) -> str:
    """Return one `key = value` line for each key that has a value."""
    return "".join(f"{bare(key)} = {scalar(values[key])}\n" for key in keys if values.get(key) is not None)


def scalar(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    return str(value) if isinstance(value, int) else quoted(str(value))


def quoted(text: str) -> str:
    """Write a TOML basic string: JSON's escapes are TOML's (TOML 1.0, section String), except that DEL needs one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def bare(key: str) -> str:
    """Quote a key when TOML's bare keys can't spell it."""
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else quoted(key)
