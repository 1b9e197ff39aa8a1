"""Files on their way into the store: what a folder holds, whether it changes, and its bytes by sha256.

No object may lie under a digest that isn't its own, while the script may write to its files at any moment. A small
file is read once, and what was hashed is what is sent. A large one is hashed and then read again as it is sent: held
by a second name nobody can take it away, and a write to it changes the time of its last change, which is looked at
before the upload is completed. Where there is no second name, it is hashed once more as it is sent.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from launcher.runner.bandwidth import Bandwidth
    from launcher.runner.freight import Freight
    from launcher.store.objects import Store

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
LARGE_AT_ONCE = 3  # each in parts of its own: bounds the memory
TICK_S = 0.02  # of the clock that a file's times are taken from: 1 to 10 ms (CONFIG_HZ)


class ChangedError(Exception):
    """A file is not what it was a moment ago. It is taken later, or told as missing."""


class Found:
    """A file, link or something else below a folder. `path` is relative, with `/`."""

    __slots__ = ("full", "kind", "path", "signature", "size", "stat_mode")

    def __init__(self, full: str, path: str) -> None:
        now = os.lstat(full)
        self.full, self.path, self.size, self.stat_mode = full, path, now.st_size, now.st_mode
        self.signature = (path, now.st_size, now.st_mtime_ns, now.st_ino)
        kinds = ((stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
        self.kind = next((name for test, name in kinds if test(now.st_mode)), "other")

    @property
    def mode(self) -> str:
        """What is kept of the mode: whether it may be executed."""
        return "0755" if self.stat_mode & 0o100 else "0644"

    def refuse_change(self) -> None:
        """Raise ChangedError when the file is not any more what it was when it was found, or is gone."""
        try:
            if Found(self.full, self.path).signature == self.signature:
                return
        except OSError as e:
            raise ChangedError(f"{self.path} is gone") from e
        raise ChangedError(f"{self.path} changed while it was read")


def walk(full: str, path: str = "") -> list[Found]:
    """Return everything below a folder that is no folder, sorted; of a file, that file. Links aren't followed.

    Raises OSError when something vanishes meanwhile.
    """
    if not stat.S_ISDIR(os.lstat(full).st_mode):
        return [Found(full, path or os.path.basename(full))]
    found: list[Found] = []
    for name in sorted(os.listdir(full)):
        found += walk(os.path.join(full, name), f"{path}/{name}" if path else name)
    return found


def line_of(file: Found, moved: Callable[[], None]) -> dict[str, Any]:
    """Return a file's line for a manifest, its sha256 made anew. Raises ChangedError or OSError.

    `moved` hears of every piece, because hashing a large file takes minutes too.
    """
    if file.kind == "link":
        return {"path": file.path, "link": os.readlink(file.full)}
    let_the_clock_tick(file)
    sha256 = sha256_file(file.full, moved)
    file.refuse_change()
    return {"path": file.path, "mode": file.mode, "size": file.size, "sha256": sha256}


def let_the_clock_tick(file: Found) -> None:
    """Wait until a write that follows would give the file another time than the last one did."""
    age_s = time.time() - file.signature[2] / 1e9
    if 0 <= age_s < TICK_S:
        time.sleep(TICK_S - age_s)


def sha256_file(path: str, moved: Callable[[], None]) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            moved()
    return digest.hexdigest()


class Sender:
    """Sends files, and counts them. Threads share it."""

    def __init__(self, freight: Freight, bandwidth: Bandwidth) -> None:
        self.freight, self.bandwidth = freight, bandwidth
        self.large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def send(self, store: Store, key: str, file: Found, line: dict[str, Any], linked: bool) -> None:
        """Put a file under a key: exactly the bytes of its line. Raises ChangedError, OSError or a LauncherError."""
        passed = Passed(self.freight)
        try:
            if file.size <= SMALL_BYTES:
                data = b"".join(checked_chunks(file, line["sha256"]))
                self.bandwidth.take(len(data))
                store.put(key, data)
            elif linked:
                with self.large:
                    self.send_large(store, key, file, passed)
            else:
                store.put(key, self.limited(checked_chunks(file, line["sha256"])))
        except BaseException:
            passed.undo()
            raise
        passed.done(file.size)

    def send_large(self, store: Store, key: str, file: Found, passed: Passed) -> None:
        from launcher.errors import LauncherError

        def moved(n_bytes: int) -> None:
            passed.moved(n_bytes)
            if passed.bytes >= file.size:
                file.refuse_change()  # before the upload is completed, where the store says so in time

        try:
            store.put_file(key, file.full, moved=moved, limit=self.bandwidth)
            file.refuse_change()
        except ChangedError:
            with contextlib.suppress(LauncherError):  # what stays there is named by no manifest, and never relied on
                store.delete(key)
            raise

    def limited(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bandwidth.take(len(chunk))
            self.freight.moved()
            yield chunk


class Passed:
    """The bytes of one upload that the freight was told of."""

    def __init__(self, freight: Freight) -> None:
        self.freight, self.bytes = freight, 0

    def moved(self, n_bytes: int) -> None:
        self.bytes += n_bytes
        self.freight.moved(n_bytes)

    def undo(self) -> None:
        self.freight.moved(-self.bytes)

    def done(self, size: int) -> None:
        self.freight.moved(size - self.bytes, files=1)


def checked_chunks(file: Found, sha256: str) -> Iterator[bytes]:
    """Read a file again for its upload. Raises ChangedError before its end if it isn't the file that was hashed:
    an upload that fails leaves nothing."""
    import hashlib

    digest = hashlib.sha256()
    held = b""
    with open(file.full, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            if held:
                yield held
            held = chunk
    if digest.hexdigest() != sha256:
        raise ChangedError(f"{file.path} changed while it was read")
    yield held


def create(store: Store, key: str, data: bytes) -> None:
    """Write a manifest, once. One that is there already is ours: its answer was lost on the way."""
    from launcher.errors import ObjectExistsError

    try:
        store.create(key, data)
    except ObjectExistsError:
        if store.get(key) != data:
            raise
