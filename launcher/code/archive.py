"""The archive of a snapshot: a tar in the same dialect as an image's layers, so that one tree gives one digest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launcher.cache import Cache
from launcher.code.model import Listed
from launcher.errors import SpecError
from launcher.image.tar import in_order, write_layer
from launcher.image.tree import CHUNK_BYTES, Entry


def write(root: Path, files: Sequence[Listed], cache: Cache) -> tuple[str, Path, int]:
    """Pack files into the cache; return (sha256, path, size of the files in bytes).

    Raises SpecError when one of them changes meanwhile.
    """
    entries = in_order([*folders(files), *(entry(root, file) for file in files)])
    with cache.scratch() as scratch:
        written = write_layer(entries, scratch / "code.tar")
        found = cache.find("artifacts", written.diff_id)
        archive = found or cache.adopt("artifacts", written.diff_id, scratch / "code.tar")
    return written.diff_id, archive, sum(file.stat.st_size for file in files if file.target is None)


def folders(files: Sequence[Listed]) -> list[Entry]:
    """Return the folders that the files lie in."""
    names = {str(parent) for file in files for parent in PurePosixPath(file.path).parents} - {"."}
    return [Entry(path=name, kind="dir", mode=0o755) for name in names]


def entry(root: Path, file: Listed) -> Entry:
    if file.target is not None:
        return Entry(path=file.path, kind="symlink", mode=0o777, target=file.target)
    mode = 0o755 if file.executable else 0o644
    return Entry(path=file.path, kind="file", mode=mode, content=Steady(root, file))


@dataclass(frozen=True)
class Steady:
    """The bytes of a file, as long as nobody changes it."""

    root: Path
    file: Listed

    @property
    def size(self) -> int:
        return self.file.stat.st_size

    def chunks(self) -> Iterator[bytes]:
        """Yield the content. Raises SpecError when the file is another than the one that was listed."""
        try:
            descriptor = os.open(self.root / self.file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as e:
            raise self.changed() from e
        with open(descriptor, "rb", buffering=0) as stream:
            left = self.size
            while left:
                data = stream.read(min(left, CHUNK_BYTES))
                if not data:
                    raise self.changed()
                left -= len(data)
                yield data
            if marks(os.fstat(descriptor)) != marks(self.file.stat):
                raise self.changed()

    def changed(self) -> SpecError:
        return SpecError(
            f"{self.file.path!r} changed while the snapshot was taken",
            hint="run again; if it always changes (a log, say), list it in .gitignore or under code.exclude",
        )


def marks(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
