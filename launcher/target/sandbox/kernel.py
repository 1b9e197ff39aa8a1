"""The few system calls that Python's library lacks: namespaces, mounts, privileges.

Numbers are of the kernel's user interface (include/uapi/linux/{sched,mount,prctl,securebits}.h), the same on every
architecture; the two raw call numbers, mount_setattr and pivot_root, are of x86-64 and the generic table.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

ENOSYS = 38
SYS_MOUNT_SETATTR = 442  # Linux 5.12
SYS_PIVOT_ROOT = {"x86_64": 155}.get(os.uname().machine, 41)
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
KEPT_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME  # statvfs and mount agree on these
ST_RELATIME = 4096  # and differ on this one
CAPABILITY_V3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)
_ulong = ctypes.c_ulong


def checked(result: int, what: str) -> int:
    """Return `result`, or raise the OSError that errno tells of."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """unshare(2)."""
    checked(libc.unshare(flags), "unshare")


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one argument."""
    return checked(libc.prctl(option, _ulong(value), _ulong(0), _ulong(0), _ulong(0)), f"prctl {option}")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """mount(2). Raises OSError that names the target."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    checked(libc.mount(words[0], words[1], words[2], _ulong(flags), words[3]), target)


def bind(source: str, target: str, *, writable: bool) -> None:
    """Bind `source` with everything that is mounted below it; set-user-id bits lose their power on the way."""
    mount(source, target, None, MS_BIND | MS_REC)
    if not writable:
        read_only(target)


def read_only(target: str) -> None:
    """Make a mount and all that is below it read-only; mounts one by one before Linux 5.12."""
    attributes = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID, 0, 0, 0)
    path = os.fsencode(target)
    if libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE, attributes, ctypes.c_size_t(32)) == 0:
        return
    if ctypes.get_errno() != ENOSYS:
        checked(-1, target)
    for below in mounts_below(target):
        remount_read_only(below)


def remount_read_only(target: str) -> None:
    """Make one mount read-only, keeping the flags that a user namespace may not clear (mount_namespaces(7))."""
    now = os.statvfs(target).f_flag
    kept = now & KEPT_FLAGS | (MS_RELATIME if now & ST_RELATIME else 0)
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def mounts_below(target: str) -> list[str]:
    """Return the mount points at and below `target`, as /proc/self/mountinfo has them (proc(5): octal escapes)."""
    with open("/proc/self/mountinfo", "rb") as stream:
        points = [line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in stream]
    top = os.fsencode(os.path.realpath(target))
    return [os.fsdecode(point) for point in points if point == top or point.startswith(top + b"/")]


def pivot_root(root: str) -> None:
    """Make `root` the root of this mount namespace and let go of the old one (pivot_root(2), NOTES)."""
    os.chdir(root)
    checked(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def drop_bounding_set() -> None:
    """Take every capability out of the bounding set, so that no program started later can gain one."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, _ulong(capability), _ulong(0), _ulong(0), _ulong(0)) < 0:
            return  # beyond the last one this kernel knows


def drop_capabilities() -> None:
    """Give up every capability that this process holds (capset(2), version 3)."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_V3, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
