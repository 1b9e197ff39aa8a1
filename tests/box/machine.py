"""A box as a machine: a set of namespaces with its own name, processes and devices, that boots, runs programs and ends.

Everything on it is found by its process namespace, so that what an engine or a session left behind ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.box.disk import hidden
from tests.box.model import USERS, Parts, Site
from tests.box.processes import BoxError, child, end, recorded, start, waited

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
BOOT_S = 180
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def controllers() -> list[str]:
    """Return the controllers of cgroup v1 that may be used here; none where this machine has only v2."""
    return [one for one in CONTROLLERS if os.access(CGROUPS / one / "cgroup.procs", os.W_OK)]


def up(box: Parts) -> None:
    """Switch it on, and wait until it has booted. Raises BoxError."""
    words = {
        "PROGRAM": str(box.program or ""),
        "CONTROLLERS": " ".join(controllers()),
        "HIDES": " ".join(hidden(box)),
    }
    environment = ["env", *(f"{name}={value}" for name, value in words.items())]
    enter = ["nsenter", f"--net=/run/netns/{box.space}", "unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup"]
    enter += ["--fork", "--kill-child=KILL", "--propagation", "private"]
    boot = [str(Path(__file__).with_name("boot.sh")), str(box.disk), box.name]
    start([*joined(box), *environment, *enter, *boot], box.record("machine"), box.log("boot"))

    def over() -> bool:
        return recorded(box.record("machine")) is None

    if not waited(lambda: over() or booted(box), BOOT_S) or over():
        raise BoxError(f"{box.name} did not boot: {box.log('boot').read_text()[-2000:]}")


def joined(box: Parts) -> list[str]:
    """Return the words that let a program run in the box's own control groups."""
    groups = [CGROUPS / one / box.group for one in controllers()]
    for group in groups:
        make_group(group)
    entering = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
    return ["bash", "-c", entering + 'exec "$@"', "bash"]


def make_group(group: Path) -> None:
    """Make a control group; one of `cpuset` takes nobody before it has processors and memory (cpuset(7))."""
    for one in (group.parent, group):
        one.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (one / name).exists() and not (one / name).read_text().strip():
                (one / name).write_text((one.parent / name).read_text())


def first(box: Parts) -> int | None:
    """Return the id of its first process, as this machine counts; None when it is off."""
    begun = recorded(box.record("machine"))
    return child(begun) if begun else None


def booted(box: Parts) -> bool:
    found = first(box)
    return found is not None and Path(f"/proc/{found}/comm").read_text().strip() == "tini"


def inside(box: Parts, user: str = "root", env: Mapping[str, str] | None = None) -> list[str]:
    """Return the words before a command that run it there, with what a fresh login has. Raises BoxError when it is
    off."""
    found = first(box)
    if found is None:
        raise BoxError(f"{box.name} is off")
    enter = ["nsenter", "-t", str(found), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
    home = "/root" if user == "root" else f"/home/{user}"
    has = {"PATH": PATH, "HOME": home, "USER": user, "LOGNAME": user, "LANG": "C.UTF-8", **(env or {})}
    clean = ["env", "-i", *(f"{name}={value}" for name, value in has.items())]
    who = [] if user == "root" else ["setpriv", f"--reuid={USERS[user]}", f"--regid={USERS[user]}", "--init-groups"]
    return [*joined(box), *enter, *who, *clean]


def execute(
    box: Parts, args: Sequence[str], *, user: str = "root", stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program there to its end."""
    return subprocess.run([*inside(box, user, env), *args], input=stdin, capture_output=True)


def serve(box: Parts, name: str, args: Sequence[str]) -> None:
    """Start a service there, unless it runs."""
    if recorded(box.record(name)) is None:
        start([*inside(box), *args], box.record(name), box.log(name))


def serving(box: Parts, name: str) -> int | None:
    """Return the process id of a service, as this machine counts; None when it doesn't run."""
    entered = recorded(box.record(name))
    return child(entered) if entered else None


def processes(box: Parts, name: str | None = None) -> list[int]:
    """Return the ids, as this machine counts, of what runs there, containers included; or of those that are called
    `name` (proc(5), comm)."""
    found = first(box)
    if found is None:
        return []
    control = next((one for one in controllers()), None)
    if control is None:
        return []
    group = CGROUPS / control / box.group
    pids = [int(pid) for path in [group, *group.rglob("*/")] for pid in read(path / "cgroup.procs").split()]
    own = [pid for pid in sorted(set(pids)) if Path(f"/proc/{pid}").exists() and is_there(pid, found)]
    return [pid for pid in own if name is None or read(Path(f"/proc/{pid}/comm")).strip() == name]


def is_there(pid: int, found: int) -> bool:
    """Tell a process of the box from one of this machine that leads there, such as nsenter."""
    return pid == found or len(numbers(pid)) > len(numbers(os.getpid()))


def numbers(pid: int) -> list[str]:
    """Return a process's ids, one in each namespace that it is in (proc(5), NSpid)."""
    lines = dict(line.split(":", 1) for line in read(Path(f"/proc/{pid}/status")).splitlines() if ":" in line)
    return lines.get("NSpid", "").split()


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def off(box: Parts) -> None:
    """Take its power away: everything on it is gone at once, and nobody is told."""
    if found := first(box):
        end([found], number=signal.SIGKILL)
    if begun := recorded(box.record("machine")):
        end([begun], number=signal.SIGKILL)
    waited(lambda: not left_of_groups(box), 10)


def left_of_groups(box: Parts) -> bool:
    """Remove its control groups; return True while something is left."""
    left = [one for one in CONTROLLERS if remove_group(CGROUPS / one / box.group)]
    return bool(left)


def remove_groups(site: Site) -> None:
    """Remove what is left of a site's control groups; a process that just ended may hold one for a moment."""
    tops = [CGROUPS / one / f"bx{site.number}" for one in CONTROLLERS]
    waited(lambda: not list(filter(remove_group, tops)), 10)


def remove_group(top: Path) -> bool:
    if not top.is_dir():
        return False
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:
            return True
    return False
