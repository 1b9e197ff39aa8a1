"""The image as one file that Apptainer, enroot and pyxis run: a SIF, or a squashfs alone; kept in the cache.

    header, 128 bytes | descriptors, from 4096 on | one partition, from 32768 on: the squashfs

The SIF has no identity and no time of its own (a nil UUID, zeros), so it says nothing but what the image is.
Source: the SIF specification in code, sylabs/sif and apptainer/sif v2, pkg/sif/sif.go and descriptor.go.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import BinaryIO, Literal

from launcher.cache import Cache, disk_full
from launcher.digest import sha256_file
from launcher.errors import ImageError
from launcher.image.oci import Image
from launcher.image.output import written_once
from launcher.image.squashfs import Compression, write_squashfs
from launcher.progress import SILENT, Progress

Format = Literal["sif", "squashfs"]
WRITER = 1
"""Raised whenever the code writes other bytes of the same image than before; part of what the cache notes."""
WORKERS = max(2, os.cpu_count() or 2)

LAUNCH = b"#!/usr/bin/env run-singularity\n"
ARCHITECTURES = {"amd64": b"02", "arm64": b"04"}
DESCRIPTORS, DESCRIPTOR_BYTES = 48, 585
DESCRIPTORS_AT, DATA_AT, PARTITION_AT = 4096, 32176, 32768
PARTITION, GROUP = 0x4004, 0xF0000001
SQUASHFS, SYSTEM = 1, 2
OUTPUT_FULL = "free some, or write to a larger file system; nothing half-written was kept"


def sif(image: Image, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the image's SIF in the cache, uncompressed; it is made when it is missing or was damaged.

    Raises IntegrityError when a layer was damaged in the cache, DiskFullError, ImageError.
    """
    return kept(image, "sif", cache, progress)


def squashfs(image: Image, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the image's squashfs in the cache, as `sif` does."""
    return kept(image, "squashfs", cache, progress)


def kept(image: Image, kind: Format, cache: Cache, progress: Progress) -> Path:
    key = f"{kind}-{WRITER}-{image.id}"
    noted = cache.note("filesystems", key)
    if isinstance(noted, str) and (path := cache.find("blobs", noted)):
        return path
    with cache.scratch() as scratch:
        part = scratch / kind
        write(image, kind, part, cache, progress, "none")
        digest, _ = sha256_file(part)
        path = cache.adopt("blobs", digest, part)
    cache.write_note("filesystems", key, digest)
    return path


def write_output(
    image: Image, kind: Format, out: Path, cache: Cache, progress: Progress, compression: Compression = "none"
) -> str:
    """Write the image to a file, whole or not at all, and return its sha256; a pipe or a device is written to as it is.

    Uncompressed, the bytes depend on the image alone; compressed, on the version of the compressor's library too.
    Raises DiskFullError, ImageError, and IntegrityError when a layer was damaged in the cache.
    """
    with disk_full(out.parent, OUTPUT_FULL):
        if out.exists() and not out.is_file():
            return write_through(image, kind, out, cache, progress, compression)
        with written_once(out.resolve()) as part:
            write(image, kind, part, cache, progress, compression)
            return sha256_file(part)[0]


def write_through(
    image: Image, kind: Format, out: Path, cache: Cache, progress: Progress, compression: Compression
) -> str:
    """Write to what can't be written to twice: the superblock is known last, and comes first."""
    with cache.scratch() as scratch:
        write(image, kind, scratch / kind, cache, progress, compression)
        with (scratch / kind).open("rb") as source, out.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return sha256_file(scratch / kind)[0]


def write(image: Image, kind: Format, path: Path, cache: Cache, progress: Progress, compression: Compression) -> None:
    with path.open("wb") as out:
        if kind == "sif":
            write_sif(image, out, cache, progress, compression)
        else:
            write_squashfs(image, out, cache, progress, compression=compression, workers=WORKERS)


def write_sif(image: Image, out: BinaryIO, cache: Cache, progress: Progress, compression: Compression) -> None:
    """Write a SIF from the start of an empty seekable stream."""
    code = architecture(image)
    out.seek(PARTITION_AT)
    size = write_squashfs(image, out, cache, progress, compression=compression, workers=WORKERS)
    out.seek(0)
    out.write(header(code, size))
    out.seek(DESCRIPTORS_AT)
    out.write(descriptor(code, size))


def architecture(image: Image) -> bytes:
    """Return the format's code for the image's architecture. Raises ImageError where launcher knows none."""
    name = str(json.loads(image.config)["architecture"])
    if name not in ARCHITECTURES:
        raise ImageError(f"no SIF can be made for {name}", hint=f"of {', '.join(ARCHITECTURES)} it can")
    return ARCHITECTURES[name]


def header(code: bytes, size: int) -> bytes:
    """Return the global header, for a partition of `size` bytes."""
    times = (0, 0)
    descriptors = (DESCRIPTORS - 1, DESCRIPTORS, DESCRIPTORS_AT, DESCRIPTORS * DESCRIPTOR_BYTES)
    data = (DATA_AT, PARTITION_AT - DATA_AT + size)
    return struct.pack("<32s10s3s3s16s8q", LAUNCH, b"SIF_MAGIC", b"01", code, bytes(16), *times, *descriptors, *data)


def descriptor(code: bytes, size: int) -> bytes:
    """Return the one descriptor in use: the primary system partition, a squashfs, owned by 0:0."""
    place = (PARTITION_AT, size, PARTITION_AT - DATA_AT + size)
    extra = struct.pack("<ii3s", SQUASHFS, SYSTEM, code)
    return struct.pack("<i?IIIqqqqqqq128s384s", PARTITION, True, 1, GROUP, 0, *place, 0, 0, 0, 0, b"", extra)
