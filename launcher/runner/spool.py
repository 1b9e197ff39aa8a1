"""Log chunks on their way: written to the run's folder as they come, handed over when big or old enough.

What a killed runner had not shipped stays in `spool/<attempt>/`; the next attempt ships it. While the store does not
answer they wait there, up to a limit: then the oldest are dropped, because the newest say why something went wrong.
When the folder is full, chunks wait in memory, up to another limit. What has to be dropped is counted.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque

from launcher.runner.clock import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 256 << 10
LATE_BYTES = 4 << 20  # of a chunk while many wait: after an outage fewer, bigger ones are there sooner
MANY_WAITING = 8
MEMORY_BYTES = 16 << 20


class Chunk:
    """Some log records. They are in a file, or in memory where no file could be written."""

    __slots__ = ("data", "dropped", "path", "seq", "size")

    def __init__(self, seq: int, path: str | None, data: bytes, size: int = 0) -> None:
        self.seq, self.path, self.data, self.size = seq, path, data, size
        self.dropped = False

    def read(self) -> bytes:
        if self.path is None:
            return self.data
        with open(self.path, "rb") as stream:
            found = stream.read()
        return found[: found.rfind(b"\n") + 1]  # a killed writer may have left half a record

    def forget(self) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.data, self.size = b"", 0

    def drop(self) -> int:
        """Give it up, unless it has just been shipped; return how many bytes are lost by that."""
        size, self.dropped = self.size, self.size > 0
        self.forget()
        return size


class Spool:
    """Collects records into chunks. Used by one thread; `hand_over` is called with each finished chunk."""

    def __init__(
        self, folder: str, age_s: float, hand_over: Callable[[Chunk], None], most_bytes: int = 1 << 30
    ) -> None:
        self.folder, self.age_s, self.hand_over, self.most_bytes = folder, age_s, hand_over, most_bytes
        self.seq, self.size, self.since = 0, 0, 0.0
        self.file: int | None = None
        self.memory = bytearray()  # the chunk being made, once its file can't be written
        self.waiting: list[Chunk] = []  # handed over in memory, not shipped yet
        self.files: deque[Chunk] = deque()  # handed over in files, not all shipped yet
        self.lost_bytes, self.told, self.told_drop = 0, False, False
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)

    def add(self, records: bytes, now: float) -> None:
        """Take whole records. `now` is in monotonic seconds."""
        if not records:
            return
        if not self.size:
            self.since = now
        self.size += len(records)
        if self.memory or not self.write(records):
            self.keep(records)
        if self.size >= (CHUNK_BYTES if len(self.files) < MANY_WAITING else LATE_BYTES):
            self.rotate()

    def tick(self, now: float) -> bool:
        """Hand over a chunk that is old enough. Return whether one was."""
        if not self.size or now - self.since < self.age_s:
            return False
        self.rotate()
        return True

    def rotate(self) -> None:
        """Hand over the chunk being made, if there is one."""
        if not self.size:
            return
        path = self.close()
        if path is not None:
            self.files.append(Chunk(self.seq, path, b"", self.size - len(self.memory)))
            self.hand_over(self.files[-1])
            self.seq += 1
            self.bound()
        if self.memory:
            self.waiting.append(Chunk(self.seq, None, bytes(self.memory)))
            self.hand_over(self.waiting[-1])
            self.seq += 1
            self.memory = bytearray()
        self.size = 0

    def bound(self) -> None:
        """Drop the oldest chunks while more wait than may."""
        while self.files and not self.files[0].size:
            self.files.popleft()
        used = sum(chunk.size for chunk in self.files)
        while used > self.most_bytes and len(self.files) > 1:
            oldest = self.files.popleft()
            used -= oldest.size
            self.lost_bytes += oldest.drop()
            if not self.told_drop:
                say(f"over {self.most_bytes >> 20} MiB of logs wait for the store: the oldest are dropped, and counted")
                self.told_drop = True

    def write(self, records: bytes) -> bool:
        """Append to the chunk's file. What a full disk takes only in part is taken back."""
        try:
            if self.file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
                self.file = os.open(self.path(), flags, 0o644)
            before = os.fstat(self.file).st_size
            if os.write(self.file, records) == len(records):
                return True
            os.ftruncate(self.file, before)
            self.tell("it took only a part")
        except OSError as e:
            self.tell(e.strerror)
        return False

    def keep(self, records: bytes) -> None:
        self.waiting = [chunk for chunk in self.waiting if chunk.data]
        used = len(self.memory) + sum(len(chunk.data) for chunk in self.waiting)
        if used + len(records) > MEMORY_BYTES:
            self.lost_bytes += len(records)
        else:
            self.memory += records

    def close(self) -> str | None:
        if self.file is None:
            return None
        empty = os.fstat(self.file).st_size == 0
        os.close(self.file)
        self.file = None
        return None if empty else self.path()

    def path(self) -> str:
        return os.path.join(self.folder, f"{self.seq:08d}")

    def tell(self, why: str | None) -> None:
        if not self.told:
            say(f"the run's folder can't be written ({why}): logs wait in memory, at most {MEMORY_BYTES >> 20} MiB")
            self.told = True


def leftover(folder: str) -> list[Chunk]:
    """Return the chunks that an earlier, killed runner left in its spool folder, oldest first."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.isdigit())
    except OSError:
        return []
    return [Chunk(int(name), os.path.join(folder, name), b"") for name in names]
