"""Unpack an uncompressed layer into a folder, fast: headers are read by hand, contents copied inside the kernel.

Formats: POSIX.1-2017 ustar and pax, and GNU tar's long names and base-256 numbers, which foreign layers have.
OCI's whiteouts (image-spec 1.1, layer.md) become those of overlayfs: a 0:0 device, an opaque mark.
Owners are left to whoever unpacks; times and permission bits are kept, set-user-id bits dropped.
"""

# ruff: noqa: PTH101, PTH102, PTH120, PTH211
# names are bytes here, and there are tens of thousands of them
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ImageError

BLOCK = 512
READ_BYTES = 1 << 16
SMALL_BYTES = 1 << 14
FILE_TYPES = frozenset(b"07\0")
HARDLINK, SYMLINK, FOLDER = b"1"[0], b"2"[0], b"5"[0]
PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK = b"x"[0], b"g"[0], b"L"[0], b"K"[0]
LIFTED = frozenset(b"xgLK")
WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
OPAQUE_MARK = "user.overlay.opaque"


@dataclass(frozen=True)
class Member:
    """One entry of the archive; its content lies from `offset` on."""

    name: bytes
    kind: int
    mode: int
    size: int
    mtime_ns: int
    link: bytes
    offset: int


class Window:
    """Reads an archive front to back in big pieces, so that most headers and small files cost no system call."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.start = 0
        self.data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on. Raises EOFError when the file is shorter."""
        at = offset - self.start
        if at < 0 or at + size > len(self.data):
            self.start, self.data, at = offset, os.pread(self.fd, max(size, READ_BYTES), offset), 0
        if len(self.data) < at + size:
            raise EOFError
        return self.data[at : at + size]


def unpack(archive: Path, into: Path) -> None:
    """Unpack `archive` into the empty folder `into`. Raises ImageError when it is broken or leads out of the folder."""
    fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    try:
        Unpacking(fd, os.fsencode(into)).run()
    except (EOFError, ValueError, IndexError) as e:
        raise ImageError(f"the layer {archive.name} is not a whole tar archive", hint="build the image again") from e
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

    def run(self) -> None:
        with Umask():
            for member in members(self.window):
                self.place(member)
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
            self.make_file(path, member)
        elif member.kind == SYMLINK:
            os.symlink(member.link, path)
            os.utime(path, ns=(member.mtime_ns, member.mtime_ns), follow_symlinks=False)
        elif member.kind == HARDLINK:
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
            os.mknod(folder + b"/" + last[len(WHITEOUT) :], 0o020000, os.makedev(0, 0))

    def make_file(self, path: bytes, member: Member) -> None:
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, member.mode & 0o777)
        try:
            if member.size <= SMALL_BYTES:
                os.write(out, self.window.read(member.offset, member.size))
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


def clean(name: bytes) -> bytes:
    """Return a member's name as a relative path; raise ValueError when it leads out."""
    plain = name.rstrip(b"/")
    if plain.startswith(b"./"):
        plain = plain[2:]
    if plain == b".":
        return b""
    if plain.startswith(b"/") or b".." in plain.split(b"/") or b"" in plain.split(b"/")[:-1]:
        raise ValueError(f"{name!r} leads out of the layer")
    return plain


def members(window: Window) -> Iterator[Member]:
    """Yield the entries of an archive. Raises EOFError or ValueError when it is broken."""
    offset, extra, shared = 0, dict[bytes, bytes](), dict[bytes, bytes]()
    while True:
        block = window.read(offset, BLOCK)
        if not block[0]:
            return
        if checksum(block) != int(block[148:156].strip(b"\0 ") or b"0", 8):
            raise ValueError("a header's checksum is wrong")
        kind, size, offset = block[156], number(block[124:136]), offset + BLOCK
        if kind in LIFTED:
            target = shared if kind == PAX_GLOBAL else extra
            target.update(lifted(kind, window.read(offset, size)))
        else:
            member = described(block, offset, {**shared, **extra} if shared or extra else extra)
            size, extra = member.size, {}
            yield member
        offset += size + -size % BLOCK


def described(block: bytes, offset: int, extra: dict[bytes, bytes]) -> Member:
    """Read one ustar header; what `extra` holds goes before it."""
    name, prefix = block[:100].split(b"\0", 1)[0], b""
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0", 1)[0]
    kind = block[156]
    mtime = number(block[136:148])
    size = number(block[124:136]) if kind in FILE_TYPES else 0
    return Member(
        name=extra.get(b"path") or (prefix + b"/" + name if prefix else name),
        kind=kind,
        mode=number(block[100:108]),
        size=int(extra[b"size"]) if b"size" in extra and kind in FILE_TYPES else size,
        mtime_ns=int(float(extra[b"mtime"]) * 1e9) if b"mtime" in extra else mtime * 1_000_000_000,
        link=extra.get(b"linkpath") or block[157:257].split(b"\0", 1)[0],
        offset=offset,
    )


def checksum(block: bytes) -> int:
    return sum(block) - sum(block[148:156]) + 8 * 32


def number(field: bytes) -> int:
    """Read an octal number, or GNU's base-256 one."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def lifted(kind: int, body: bytes) -> dict[bytes, bytes]:
    """Return what a pax record or a GNU long name says of the next entry."""
    if kind in (GNU_NAME, GNU_LINK):
        return {b"path" if kind == GNU_NAME else b"linkpath": body.rstrip(b"\0")}
    found: dict[bytes, bytes] = {}
    while body:
        length = int(body[: body.index(b" ")])
        key, _, value = body[body.index(b" ") + 1 : length - 1].partition(b"=")
        found[key] = value
        body = body[length:]
    return found
