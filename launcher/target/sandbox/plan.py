"""What is mounted where in a sandbox: from a container to the list of steps for the inside half.

Pure, but for the driver's files that a container with GPUs is shown.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from launcher.target.driver_files import DriverFiles, driver_files
from launcher.target.gpus import LIBRARIES
from launcher.target.model import Container, Mount
from launcher.target.sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID

Action = tuple[object, ...]

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# Files of /proc that act on or tell of the whole machine: root outside is root to them, whatever its namespace.
# The lists are those of the OCI runtime's defaults (moby, oci/defaults.go).
FROZEN = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
HIDDEN_FILES = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug")
HIDDEN_FOLDERS = ("/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap")
HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")
SKELETON_FOLDERS = (
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "etc",
    "data",
    "workspace",
    "opt/launcher",
    "var/cache/launcher/pycache",
    ".singularity.d/libs",
)
SKELETON_FILES = ("etc/resolv.conf", "etc/hosts", "etc/passwd", "etc/group")
QUIET = MS_NOSUID | MS_NODEV


def actions(container: Container) -> list[Action]:
    """Return the steps, in order, that make a bare root into the container's."""
    shown = driver_files(container.gpus) if container.gpus else DriverFiles()
    return [
        *kernel_files(),
        *devices(shown.devices),
        *folders(),
        *own_mounts(container.mounts),
        *driver(shown),
        *sealed(),
    ]


def kernel_files() -> Iterator[Action]:
    """/proc of the own PID namespace; /sys as it is, read-only; nothing there that a command could turn."""
    yield "mount", "proc", "/proc", QUIET | MS_NOEXEC, ""
    yield "bind", "/sys", "/sys", False
    for path in FROZEN:
        yield "freeze-if-there", path
    for path in HIDDEN_FILES:
        yield "bind-if-there", "/dev/null", path, True
    for path in HIDDEN_FOLDERS:
        yield "hide-if-there", path


def devices(more: tuple[str, ...] = ()) -> Iterator[Action]:
    """A small fixed /dev: a user namespace can't make device nodes, so the host's are bound one by one."""
    yield "mount", "tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k"
    for path in (*(f"/dev/{name}" for name in DEVICES), *more):
        yield "file", path
        yield "bind", path, path, True
    for name, text in DEVICE_LINKS.items():
        yield "link", text, f"/dev/{name}"
    yield "folder", "/dev/pts"
    yield "mount", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"
    yield "folder", "/dev/shm"
    yield "mount", "tmpfs", "/dev/shm", QUIET, "mode=1777"


def folders() -> Iterator[Action]:
    """What is writable, and what mount points are made in."""
    yield "mount", "tmpfs", "/tmp", QUIET, "mode=1777"
    for target in ("/run", "/data"):
        yield "mount", "tmpfs", target, QUIET, "mode=0755,size=1m"
    for path in HOST_FILES:
        yield "bind-if-there", path, path, False


def driver(shown: DriverFiles) -> Iterator[Action]:
    """The libraries of NVIDIA's driver, where the container's LD_LIBRARY_PATH names them."""
    if shown.libraries:
        yield "mount", "tmpfs", LIBRARIES, QUIET, "mode=0755,size=1m"
        for mount in shown.mounts:
            yield "file", mount.target
            yield "bind", str(mount.source), mount.target, False
        yield "seal", LIBRARIES


def own_mounts(mounts: tuple[Mount, ...]) -> Iterator[Action]:
    """The container's own mounts, outer ones first, each with the mount point that it may lack."""
    for mount in sorted(mounts, key=lambda mount: mount.target.count("/")):
        if posixpath.dirname(mount.target) in ("/run", "/data"):
            yield ("folder" if mount.source.is_dir() else "file"), mount.target
        yield "bind", str(mount.source), mount.target, mount.writable


def sealed() -> Iterator[Action]:
    """What was writable only to make mount points in."""
    for target in ("/dev", "/run", "/data"):
        yield "seal", target
