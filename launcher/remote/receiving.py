"""Puts what is delivered below a shared folder, each thing whole by a rename: a program that a login node is sent.

It reads frames on stdin. A frame is a line of JSON, then pieces (a flag: 0 end, 1 as it is, 2 zlib, 3 copied; four
bytes of length; so many bytes), then the sha256 of its content:

    {"kind": "file", "path": ..., "mode": ..., "replace": ..., "part": ..., "start": ..., "base": ...}
                                       `start` bytes of it lie in tmp/`part`: it goes on from there, and may again.
                                       A copied piece is an offset and a size (eight bytes each) in the file `base`;
                                       where that is not what was thought, the answer names what is to come whole
    {"kind": "tree", "path": ..., "compile": ...}          its content is a tar archive
    {"kind": "run", "argv": [...]}                         once all before it are there
    {"kind": "end"}

The answer is one line of JSON behind MARK. Standard library alone, and nothing of ours: launcher is not there yet.
"""

# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH108, PTH111, PTH112, PTH114, PTH116, PTH118, PTH120, PTH208
# ruff: noqa: PTH211
# pathlib would do, and takes longer to import

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

MARK = "\nlauncher answers: "
END, PLAIN, DEFLATED, COPIED = 0, 1, 2, 3
PIECE = struct.Struct(">BI")
SPAN = struct.Struct(">QQ")
ABANDONED_S = 2 * 86400
SYNCS = 16  # at once
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # what file systems without fsync answer
INCOMING = "tmp"  # below the shared folder: what is under way


def main() -> None:
    """Take what comes on stdin; argv[1] is the shared folder."""
    os.umask(os.umask(0o022) | 0o002)  # logins whose umask is 000 exist
    shared = os.path.expanduser(sys.argv[1])
    try:
        answer: dict[str, Any] = {"done": receive(sys.stdin.buffer, shared)}
    except CutError:
        answer = {"cut": True}
    except OSError as e:
        answer = {"errno": e.errno, "message": f"{e.strerror}: {e.filename}" if e.filename else str(e)}
    except BaseError as e:
        answer = {"whole": str(e)}
    except FailedError as e:
        answer = {"errno": None, "message": str(e)}
    sys.stdout.write(MARK + json.dumps(answer) + "\n")


class CutError(Exception):
    """The stream ended before its end."""


class BaseError(Exception):
    """What something should be made from is not there, or is something else."""


class FailedError(Exception):
    """What came was wrong, or a program that should make something of it failed."""


def receive(stream: BinaryIO, shared: str) -> list[str]:
    """Take frames until the one that says so; return the paths that are there now."""
    done = []
    with incoming(shared) as folder:
        while (told := json.loads(line_of(stream)))["kind"] != "end":
            if told["kind"] == "run":
                made(told["argv"])
            else:
                with Content(stream, told.get("base") and os.path.join(shared, told["base"]), told["path"]) as content:
                    take(content, told, folder, shared)
                    content.check()
                settle(os.path.join(folder, "new"))
                place(os.path.join(folder, "new"), os.path.join(shared, told["path"]), told.get("replace", False))
                done.append(told["path"])
    return done


def take(content: Content, told: dict[str, Any], folder: str, shared: str) -> None:
    """Write a frame's content to `new` in the folder of what is under way."""
    new = os.path.join(folder, "new")
    if told.get("part"):
        go_on(content, told, new, os.path.join(shared, INCOMING, told["part"]))
        return
    if told["kind"] == "file":
        write(new, content.chunks(), told["mode"])
        return
    with tarfile.open(fileobj=cast(BinaryIO, Reading(content)), mode="r|") as archive:
        for member in archive:
            unpack(archive, member, new)
    os.makedirs(new, exist_ok=True)
    content.drain()
    if told.get("compile"):
        compile_in(new, os.path.join(shared, told["path"]))


def go_on(content: Content, told: dict[str, Any], new: str, part: str) -> None:
    """Append to what has come before, and name it `new` then. Who finds somebody else at it goes on with a copy."""
    with open(part, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            own = os.path.samestat(os.fstat(file.fileno()), os.stat(part))
        except OSError:
            own = False
        if not own:
            with open(new, "xb") as copy:
                append(content, told, copy, chunks_of(file, told["start"]))
            return
        for chunk in chunks_of(file, told["start"]):
            content.digest.update(chunk)
        file.truncate(told["start"])
        append(content, told, file, ())
        os.rename(part, new)


def append(content: Content, told: dict[str, Any], file: BinaryIO, before: Iterable[bytes]) -> None:
    for chunk in before:
        content.digest.update(chunk)
        file.write(chunk)
    try:
        for chunk in content.chunks():
            file.write(chunk)
    finally:
        file.flush()
    os.fchmod(file.fileno(), told["mode"])


def chunks_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the first bytes of a file. Raises FailedError when there are fewer."""
    for at in range(0, size, 1 << 20):
        chunk = os.pread(file.fileno(), min(1 << 20, size - at), at)
        if len(chunk) < min(1 << 20, size - at):
            raise FailedError("what had come before is gone; the same again sends it anew")
        yield chunk


def write(path: str, chunks: Iterable[bytes], mode: int) -> None:
    """Write a file that nobody else may read before it has its mode."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        os.fchmod(file.fileno(), mode)


def unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, into: str) -> None:
    """Put one member of a tree into place: files, folders and links, none of them outside of it."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts or member.name.startswith("/"):
        raise FailedError(f"a tree leads out of its folder: {member.name!r}")
    place = os.path.join(into, *parts)
    os.makedirs(place if member.isdir() else os.path.dirname(place), exist_ok=True)
    if member.issym():
        os.symlink(member.linkname, place)
    elif member.isreg():
        source = archive.extractfile(member)
        assert source is not None
        write(place, iter(lambda: source.read(1 << 20), b""), member.mode & 0o777)
        os.utime(place, (member.mtime, member.mtime))


def compile_in(folder: str, final: str) -> None:
    """Make byte code that is believed without a look at its source, once for all nodes."""
    import compileall
    import py_compile

    compileall.compile_dir(
        folder,
        quiet=2,
        stripdir=folder,
        prependdir=final,
        workers=2,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def settle(new: str) -> None:
    """Bring a file, or all files of a folder, to the disk. After a power cut a name may be there and its bytes not, and
    what is there is taken for right."""
    if not os.path.isdir(new):
        synced(new)
        return
    from concurrent.futures import ThreadPoolExecutor

    paths = (os.path.join(folder, name) for folder, _, names in os.walk(new) for name in names)
    with ThreadPoolExecutor(SYNCS) as pool:  # one after the other takes ten times as long
        list(pool.map(synced, [path for path in paths if not os.path.islink(path)]))


def synced(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as e:
        if e.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def place(new: str, final: str, replace: bool) -> None:
    """Give what is whole its name. Who comes second finds the same there, and is harmless."""
    folder = os.path.dirname(final)
    private = not os.path.isdir(new) and not os.stat(new).st_mode & 0o077
    os.makedirs(folder, mode=0o700 if private else 0o777, exist_ok=True)
    if private:
        os.chmod(folder, 0o700)
    if os.path.lexists(final) and not replace:
        remove(new)
        return
    try:
        os.rename(new, final)
    except OSError:
        if not os.path.isdir(final) or not os.path.isdir(new):
            raise
        remove(new)  # somebody was faster with the same tree


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def made(argv: list[str]) -> None:
    """Run a program that makes something of what came; what it says is told when it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise FailedError(said or f"`{argv[0]}` ended with code {done.returncode}")


@contextlib.contextmanager
def incoming(shared: str) -> Iterator[str]:
    """Give a folder for what is under way, and remove what dead ones left there days ago."""
    tmp = os.path.join(shared, INCOMING)
    os.makedirs(tmp, exist_ok=True)
    for name in os.listdir(tmp):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(os.path.join(tmp, name)).st_mtime > ABANDONED_S:
                remove(os.path.join(tmp, name))
    folder = os.path.join(tmp, secrets.token_hex(8))
    os.mkdir(folder, 0o700)
    try:
        yield folder
    finally:
        remove(folder)


def line_of(stream: BinaryIO) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise CutError
    return line


def exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise CutError
    return data


class Content:
    """The pieces of one frame, hashed as they come. `base` is the file that some of them are copied from."""

    def __init__(self, stream: BinaryIO, base: str | None = None, name: str = "") -> None:
        self.stream, self.digest, self.over, self.name = stream, hashlib.sha256(), False, name
        try:
            self.base = open(base, "rb") if base else None  # noqa: SIM115 - closed with this
        except OSError as e:
            raise BaseError(name) from e

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        if self.base:
            self.base.close()

    def chunks(self) -> Iterator[bytes]:
        while not self.over:
            flag, size = PIECE.unpack(exactly(self.stream, PIECE.size))
            if flag == END:
                self.over = True
                return
            data = exactly(self.stream, size)
            if flag == COPIED:
                yield from self.copied(*SPAN.unpack(data))
                continue
            data = zlib.decompress(data) if flag == DEFLATED else data
            self.digest.update(data)
            yield data

    def copied(self, at: int, size: int) -> Iterator[bytes]:
        assert self.base is not None
        self.base.seek(at)
        while size:
            data = self.base.read(min(size, 1 << 20))
            if not data:
                raise BaseError(self.name)
            size -= len(data)
            self.digest.update(data)
            yield data

    def drain(self) -> None:
        for _ in self.chunks():
            pass

    def check(self) -> None:
        if exactly(self.stream, 32) == self.digest.digest():
            return
        if self.base:
            raise BaseError(self.name)
        raise FailedError(f"{self.name} came with other bytes than were sent")


class Reading:
    """Content as a file that tarfile reads."""

    def __init__(self, content: Content) -> None:
        self.chunks, self.rest = content.chunks(), b""

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes, fewer only at the end."""
        parts, have = [self.rest], len(self.rest)
        while have < size and (chunk := next(self.chunks, b"")):
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self.rest = data[size:]
        return data[:size]


if __name__ == "__main__":
    main()
