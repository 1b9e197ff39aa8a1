"""The virtual file tree: what an image's files are before any byte of a layer is written.

A path is relative, uses `/`, and is what it says: symlinked directories are resolved before an entry is made,
so `usr/lib/x` never appears as `lib/x`. Owners are always 0:0 and times constant, so an entry holds neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

CHUNK_BYTES = 1 << 20


class Content(Protocol):
    """The bytes of a regular file, read as often as needed and in pieces, so that no file is held in memory."""

    @property
    def size(self) -> int: ...
    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Bytes:
    """Content that is at hand."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        if self.data:
            yield self.data


@dataclass(frozen=True)
class Slice:
    """Content that lies in `file` from `offset` on, `size` bytes long (a member of an uncompressed archive)."""

    file: Path
    offset: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.offset)
            left = self.size
            while left:
                data = stream.read(min(left, CHUNK_BYTES))
                if not data:
                    raise EOFError(f"{self.file} ends {left} bytes too early")
                left -= len(data)
                yield data


@dataclass(frozen=True)
class Entry:
    """One path. `mode` holds permission bits only (0o7777 at most; setuid, setgid and sticky follow the tree's rules).

    `target` is the text of a symlink, or the path of the entry that a hard link shares its content with.
    """

    path: str
    kind: Literal["dir", "file", "symlink", "hardlink"]
    mode: int = 0o755
    content: Content | None = None
    target: str = ""
