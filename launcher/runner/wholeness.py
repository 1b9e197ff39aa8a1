"""What a checkpoint's own format says of its being whole: a file that is surely half is never taken.

A name or a format that isn't known says nothing. What is looked at:

- torch.distributed.checkpoint: a folder with `*.distcp` files is whole once `.metadata` is there, which the
  coordinating process writes when all others have written theirs (FileSystemWriter.finish).
- safetensors: the header says how long the file is (format description, "Format"); an index names every shard.
- ZIP, which torch.save and numpy.savez write: the central directory's end lies in the last 64 KiB (APPNOTE 4.3.16).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat

HEADER_BYTES = 8
LONGEST_HEADER = 100 << 20  # the format's own limit
ZIP_BEGIN, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
ZIP_TAIL = 22 + (1 << 16)  # the record itself, and the longest comment


def half(path: str) -> bool:
    """Return whether a checkpoint, a file or a folder, is surely not whole. What can't be read says nothing."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return half_folder(path) if os.path.isdir(path) else half_file(path)
    return False


def half_folder(folder: str) -> bool:
    for here, _, names in os.walk(folder):
        if any(name.endswith(".distcp") for name in names) and ".metadata" not in names:
            return True
        if any(lacks_shards(os.path.join(here, name), names) for name in names if is_index(name)):
            return True
        if any(half_file(os.path.join(here, name)) for name in names):
            return True
    return False


def is_index(name: str) -> bool:
    return name.endswith((".safetensors.index.json", ".bin.index.json"))


def lacks_shards(index: str, names: list[str]) -> bool:
    """Return whether an index names shards that don't lie beside it."""
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError), open(index, "rb") as stream:
        return not set(json.load(stream)["weight_map"].values()) <= set(names)
    return False


def half_file(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        if path.endswith(".safetensors"):
            return os.path.getsize(path) < safetensors_bytes(path)
        if path.endswith((".pt", ".pth", ".npz", ".ckpt", ".bin")):
            return is_cut_zip(path)
    return False


def safetensors_bytes(path: str) -> int:
    """Return how long a file must be to hold what its header says. Raises ValueError where that is none."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(HEADER_BYTES), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"{path} has no header")
        header = stream.read(length)
    if len(header) < length:
        return HEADER_BYTES + length
    ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
    return HEADER_BYTES + length + int(max(ends, default=0))


def is_cut_zip(path: str) -> bool:
    with open(path, "rb") as stream:
        if stream.read(4) != ZIP_BEGIN:
            return False
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - ZIP_TAIL))
        return ZIP_END not in stream.read()
