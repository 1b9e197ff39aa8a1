"""Hears of what is renamed into a folder: the kernel's clock for files ticks too slowly to tell it from their times.

By inotify(7), through ctypes, because the standard library has no door to it. Where it can't be had (a kernel or a
Python without), nothing is heard, and the times decide alone.
"""

from __future__ import annotations

import os
import struct

EVENT = struct.Struct("iIII")
IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_Q_OVERFLOW = 0x2, 0x80, 0x100, 0x4000  # linux/inotify.h
READ_BYTES = 1 << 16


class Renames:
    """The names in a folder that were renamed into their place and not written to since."""

    def __init__(self, folder: str) -> None:
        self.names: set[str] = set()
        self.fd = -1
        try:
            import ctypes

            library = ctypes.CDLL(None, use_errno=True)
            fd = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if fd >= 0 and library.inotify_add_watch(fd, os.fsencode(folder), IN_MODIFY | IN_MOVED_TO | IN_CREATE) >= 0:
                self.fd = fd
        except (ImportError, OSError, AttributeError):
            return

    def hear(self) -> set[str]:
        """Take in what has happened since; return the names."""
        while self.fd >= 0:
            try:
                data = os.read(self.fd, READ_BYTES)
            except OSError:  # nothing more at present
                break
            self.take(data)
        return self.names

    def take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            _, mask, _, length = EVENT.unpack_from(data, at)
            at += EVENT.size + length
            name = os.fsdecode(data[at - length : at].rstrip(b"\0"))
            if mask & IN_Q_OVERFLOW:  # something was missed: believe nothing that was heard before
                self.names.clear()
            elif mask & IN_MOVED_TO:
                self.names.add(name)
            else:
                self.names.discard(name)
