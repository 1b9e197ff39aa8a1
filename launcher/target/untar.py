"""Unpack an uncompressed layer into a folder, fast: headers are read by hand, contents copied inside the kernel.

OCI's whiteouts (image-spec 1.1, layer.md) become those of overlayfs: a 0:0 device, an opaque mark.
Owners are left to whoever unpacks; times and permission bits are kept, set-user-id bits dropped.
"""

# ruff: noqa: PTH101, PTH102, PTH108, PTH112, PTH114, PTH120, PTH211
# names are bytes here, and there are tens of thousands of them
from __future__ import annotations

import os
import threading
from pathlib import Path

from launcher.cache import write_all
from launcher.errors import ImageError
from launcher.image.tar_reader import (
    FILE_TYPES,
    FOLDER,
    HARDLINK,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Member,
    Window,
    clean,
    members,
)

SMALL_BYTES = 1 << 14
OPAQUE_MARK = "user.overlay.opaque"


def unpack(archive: Path, into: Path) -> None:
    """Unpack `archive` into the empty folder `into`. Raises ImageError when it is broken or leads out of the folder."""
    fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    try:
        Unpacking(fd, os.fsencode(into)).run()
    except (EOFError, ValueError, IndexError) as e:
        raise ImageError(f"the layer {archive.name} is not a whole tar archive", hint="build the image again") from e
    except (FileExistsError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as e:
        raise ImageError(f"the layer {archive.name} contradicts itself: {e}", hint="its base can't be used") from e
    finally:
        os.close(fd)


class Umask:
    """Takes the umask away, which is the whole process's, while a thread unpacks; the last one brings it back."""

    lock = threading.Lock()
    inside = 0
    before = 0

    def __enter__(self) -> None:
        with Umask.lock:
            if not Umask.inside:
                Umask.before = os.umask(0)
            Umask.inside += 1

    def __exit__(self, *error: object) -> None:
        with Umask.lock:
            Umask.inside -= 1
            if not Umask.inside:
                os.umask(Umask.before)


class Unpacking:
    """One archive on its way into one folder."""

    def __init__(self, fd: int, root: bytes) -> None:
        self.window = Window(fd)
        self.fd = fd
        self.root = root
        self.known = {b""}  # folders that this archive has made: nothing is written through anything else
        self.finished: list[tuple[bytes, int, int]] = []
        self.made: set[bytes] = set()
        self.hidden: list[bytes] = []  # what this layer takes away of those below

    def run(self) -> None:
        with Umask():
            for member in members(self.window):
                self.place(member)
            for path in self.hidden:
                self.hide(path)
        for path, mode, mtime_ns in reversed(self.finished):  # last, since each file within touches its folder
            os.chmod(path, mode)
            os.utime(path, ns=(mtime_ns, mtime_ns))

    def place(self, member: Member) -> None:
        """Make one entry."""
        name = clean(member.name)
        parent, _, last = name.rpartition(b"/")
        if parent not in self.known:
            self.make_parents(parent)
        path = self.root + b"/" + name
        if member.kind == FOLDER:
            self.make_folder(name, path, member)
        elif last.startswith(WHITEOUT):
            self.white_out(last, path)
        elif member.kind in FILE_TYPES:
            self.clear(path)
            self.make_file(path, member)
        elif member.kind == SYMLINK:
            self.clear(path)
            os.symlink(member.link, path)
            os.utime(path, ns=(member.mtime_ns, member.mtime_ns), follow_symlinks=False)
        elif member.kind == HARDLINK:
            self.clear(path)
            os.link(self.root + b"/" + clean(member.link), path, follow_symlinks=False)

    def make_parents(self, parent: bytes) -> None:
        """Make the folders that an archive takes for granted; refuse a link where a folder should be."""
        parts = parent.split(b"/")
        for count in range(1, len(parts) + 1):
            name = b"/".join(parts[:count])
            if name not in self.known:
                os.mkdir(self.root + b"/" + name, 0o755)
                self.known.add(name)

    def make_folder(self, name: bytes, path: bytes, member: Member) -> None:
        if name not in self.known:
            os.mkdir(path, 0o755)
            self.known.add(name)
        self.finished.append((path, member.mode & 0o1777, member.mtime_ns))

    def white_out(self, last: bytes, path: bytes) -> None:
        folder = os.path.dirname(path)
        if last == OPAQUE:
            os.setxattr(folder, OPAQUE_MARK, b"y")
        else:
            self.hidden.append(folder + b"/" + last[len(WHITEOUT) :])

    def hide(self, path: bytes) -> None:
        """Make a whiteout; any user may (mknod(2), Linux 5.8). What the layer has there itself hides the same."""
        if os.path.isdir(path) and not os.path.islink(path):
            os.setxattr(path, OPAQUE_MARK, b"y")
        elif not os.path.lexists(path):
            os.mknod(path, 0o020000, os.makedev(0, 0))

    def clear(self, path: bytes) -> None:
        """Of two files with one name in a layer the later counts, as engines have it."""
        if path in self.made:
            os.unlink(path)
        self.made.add(path)

    def make_file(self, path: bytes, member: Member) -> None:
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, member.mode & 0o777)
        try:
            if member.size <= SMALL_BYTES:
                write_all(out, self.window.read(member.offset, member.size))
            else:
                copy(self.fd, member.offset, out, member.size)
            os.utime(out, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(out)


def copy(fd: int, offset: int, out: int, size: int) -> None:
    """Copy a range between files inside the kernel, where the file system can (copy_file_range(2))."""
    while size:
        try:
            done = os.copy_file_range(fd, out, size, offset_src=offset)
        except OSError:
            done = os.write(out, os.pread(fd, min(size, 1 << 20), offset))
        if not done:
            raise EOFError
        offset, size = offset + done, size - done
