"""A small image made of this machine's own interpreter and shell: real enough to run a job, and no network needed."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.image.interop import FOLDERS
from launcher.image.oci import Image, Layer, manifest_of
from launcher.image.tar import in_order, write_layer
from launcher.image.tree import Bytes, Entry, Slice

LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages", "__pycache__", "lib2to3"}
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"


def tiny_image(cache: Cache, *, mount_points: bool = False) -> Image:
    """Return an image of two layers: shell and libraries, Python over them.

    `mount_points` gives it the empty folders that the assembler gives every image. Made once in a process, as that
    takes two seconds; a cache gets copies, as a test may damage its own.
    """
    made = made_once(mount_points)
    return replace(made, layers=tuple(replace(layer, path=copied(layer, cache)) for layer in made.layers))


def copied(layer: Layer, cache: Cache) -> Path:
    place = cache.path("blobs", layer.diff_id)
    if place.exists():
        return place
    with cache.scratch() as scratch:
        return cache.adopt("blobs", layer.diff_id, Path(shutil.copyfile(layer.path, scratch / "layer")))


@functools.cache
def made_once(mount_points: bool) -> Image:
    folder = tempfile.mkdtemp(prefix="tiny-image-")
    atexit.register(remove, folder, os.getpid())
    return make(Cache(Path(folder)), mount_points)


def remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # and not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def make(cache: Cache, mount_points: bool) -> Image:
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}").resolve()
    library = Path(sys.base_prefix, "lib", python.name)
    obstore = importlib.util.find_spec("obstore")
    assert obstore is not None
    packages = Path(str(obstore.origin)).parent
    extensions = [str(path) for path in [*library.glob("lib-dynload/*.so"), *packages.glob("*.so")]]
    base = {
        "bin/sh": file_entry("bin/sh", Path("/bin/sh").resolve(), 0o755),
        **{str(path)[1:]: file_entry(str(path)[1:], path, 0o755) for path in libraries("/bin/sh", python, *extensions)},
        "etc/passwd": Entry(path="etc/passwd", kind="file", mode=0o644, content=Bytes(PASSWD.encode())),
        "etc/group": Entry(path="etc/group", kind="file", mode=0o644, content=Bytes(b"root:x:0:\n")),
    }
    files = {name: file_entry(name, path, mode) for name, path, mode in python_files(python, library)}
    link = Entry(path="usr/bin/python3", kind="symlink", mode=0o777, target=str(python))
    empty = {path: Entry(path=path, kind="dir", mode=mode) for path, mode in FOLDERS.items()} if mount_points else {}
    return image(cache, [base, {**empty, **files, link.path: link}])


def image(cache: Cache, trees: list[dict[str, Entry]]) -> Image:
    """Put trees of entries into the cache as the layers of an image."""
    layers = []
    for rank, entries in enumerate(trees):
        with cache.scratch() as scratch:
            written = write_layer(
                in_order({**{entry.path: entry for entry in folders(entries)}, **entries}.values()), scratch / "layer"
            )
            path = cache.adopt("blobs", written.diff_id, scratch / "layer")
        layers.append(
            Layer(rank=rank, name=f"layer {rank}", diff_id=written.diff_id, size=written.size, listing="", path=path)
        )
    config = canonical_json(
        {
            "architecture": "amd64",
            "config": {"Env": ["PATH=/usr/bin:/bin", "OF_IMAGE=yes"]},
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
        }
    )
    manifest = canonical_json(manifest_of(config, sha256_bytes(config), layers))
    return Image(id=sha256_bytes(config), config=config, manifest=manifest, layers=tuple(layers))


def folders(entries: dict[str, Entry]) -> list[Entry]:
    names = {str(parent) for name in entries for parent in Path(name).parents} - {"."}
    return [Entry(path=name, kind="dir", mode=0o755) for name in names]


def file_entry(name: str, source: Path, mode: int) -> Entry:
    return Entry(path=name, kind="file", mode=mode, content=Slice(source, 0, source.stat().st_size))


def python_files(python: Path, library: Path) -> Iterator[tuple[str, Path, int]]:
    yield str(python)[1:], python, 0o755
    for path in sorted(library.rglob("*")):
        parts = set(path.relative_to(library).parts)
        if not parts & LEFT_OUT and path.is_file() and not path.is_symlink() and path.suffix != ".a":
            yield str(path)[1:], path, 0o755 if path.suffix == ".so" else 0o644


def libraries(*programs: str | Path) -> list[Path]:
    """Return the shared libraries that programs load, by the paths that they ask for (ldd(1))."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    return sorted({Path(path) for path in re.findall(r"(/\S+) \(0x", said)})
