"""Whether the kernel has killed for want of memory in this process's control groups.

Sources: the kernel's admin-guide/cgroup-v2.rst (memory.events, oom_kill) and cgroup-v1/memory.rst (memory.oom_control).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
DEPTH = 3  # our own group, the step's and the job's


def kills(groups: str = "/proc/self/cgroup", top: Path = TOP) -> int | None:
    """Return how many processes of the job's were killed so far; None where no group tells."""
    found = [count for file in files(groups, top) if (count := counted(file)) is not None]
    return max(found, default=None)


def everywhere(stat: Path = Path("/proc/vmstat")) -> int | None:
    """Return how many processes of this machine were killed so far (proc_vmstat(5), oom_kill; Linux 4.13)."""
    return counted(stat)


def files(groups: str, top: Path) -> list[Path]:
    """Return where the counts lie: of each group that this process is in, and of those above it."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path(groups).read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += above(top, path, "memory.events") + above(top / "unified", path, "memory.events")
            elif "memory" in controllers.split(","):
                found += above(top / "memory", path, "memory.oom_control")
    return found


def above(mount: Path, path: str, name: str) -> list[Path]:
    here = mount / path.strip("/")
    places = [here, *here.parents][:DEPTH]
    return [place / name for place in places if place != mount and place.is_relative_to(mount)]


def counted(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def since(before: int | None) -> int | None:
    """Return how many were killed since `kills` returned `before`; None where that can't be known."""
    now = kills()
    return None if now is None or before is None else now - before
