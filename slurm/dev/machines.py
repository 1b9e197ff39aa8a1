"""Machines: each a set of namespaces with its own name, address, processes, devices and file system."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from configs import gpus_of
from processes import ClusterError, child, end, recorded, start, waited
from settings import Settings

HERE = Path(__file__).parent
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "devices", "freezer", "cpuacct", "cpu")
BOOT_S = 30


def controllers(s: Settings) -> list[str]:
    """Return the controllers of cgroup v1 that may be used here; none where the machine has only v2."""
    return [one for one in CONTROLLERS if os.access(CGROUPS / one, os.W_OK)] if s.cgroups else []


def can_constrain() -> bool:
    return all(os.access(CGROUPS / one / "cgroup.procs", os.W_OK) for one in ("memory", "devices", "freezer"))


def record(s: Settings, machine: str) -> Path:
    return Path(s.home, "run", machine)


def up(s: Settings, machine: str) -> None:
    """Switch a machine on. `wait` waits until it is there."""
    if recorded(record(s, machine)) is not None:
        return
    Path(s.home, "machines", machine).mkdir(exist_ok=True, parents=True)
    environment = [f"{name}={' '.join(values)}" for name, values in words(s, machine).items()]
    enter = ["nsenter", f"--net=/run/netns/{s.space(machine)}", "unshare", "--mount", "--uts", "--ipc", "--pid"]
    enter += ["--cgroup", "--fork", "--kill-child=KILL", "--propagation", "private"]
    boot = [str(HERE / "boot.sh"), s.home, machine]
    args = [*joined(s, machine), "env", *environment, *enter, *boot]
    start(args, record(s, machine), log(s, machine))


def words(s: Settings, machine: str) -> dict[str, Sequence[str]]:
    """Return what boot.sh is told."""
    of_site = machine != "laptop"
    programs = s.programs if machine != "head" else ()
    prefixes = {str(Path(program).parents[1]) for program in programs} - {"/usr", "/usr/local"}
    return {
        "BINDS": [f"{s.home}/etc", *([str(s.shared), *s.binds] if of_site else []), *sorted(prefixes)],
        "HIDES": s.hides if of_site and machine != "head" else (),
        "PROGRAMS": programs,
        "USERS": s.users,
        "CONTROLLERS": controllers(s),
        "GPUS": [str(gpus_of(s, machine))],
    }


def log(s: Settings, machine: str) -> Path:
    return Path(s.home, "log", f"{machine}.boot")


def joined(s: Settings, machine: str) -> list[str]:
    """Return the words that let a program run in the machine's own control groups."""
    groups = [CGROUPS / one / f"sd{s.number}" / machine for one in controllers(s)]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    entering = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
    return ["bash", "-c", entering + 'exec "$@"', "bash"]


def first(s: Settings, machine: str) -> int | None:
    """Return the id of a machine's first process, as this machine counts; None when it is off."""
    begun = recorded(record(s, machine))
    return child(begun) if begun else None


def wait(s: Settings, machine: str) -> None:
    """Wait until a machine has booted. Raises ClusterError."""

    def booted() -> bool:
        found = first(s, machine)
        return found is not None and Path(f"/proc/{found}/comm").read_text().strip() == "tini"

    def over() -> bool:
        return recorded(record(s, machine)) is None

    if not waited(lambda: over() or booted(), BOOT_S) or over():
        raise ClusterError(f"{machine} did not boot: {log(s, machine).read_text()[-2000:]}")


def inside(s: Settings, machine: str, *, user: str | None = None) -> list[str]:
    """Return the words before a command that run it on a machine, as root or another user.

    Raises ClusterError when it is off.
    """
    found = first(s, machine)
    if found is None:
        raise ClusterError(f"{machine} is off")
    enter = ["nsenter", "-t", str(found), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
    home = next((one for one in s.users if one.partition(":")[0] == user), None)
    if home is None:
        return [*joined(s, machine), *enter]
    number = home.partition(":")[2]
    return [*joined(s, machine), *enter, "setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]


def exists(s: Settings, machine: str, path: str) -> bool:
    return Path(f"/proc/{first(s, machine)}/root{path}").exists()


def execute(s: Settings, machine: str, args: Sequence[str], *, user: str | None = None) -> int:
    """Run a command on a machine with this process's own input and output; return its exit code."""
    return subprocess.call([*inside(s, machine, user=user), *args], env=environment(s, machine, user))


def environment(s: Settings, machine: str, user: str | None) -> dict[str, str]:
    """Return what a fresh login has."""
    home = "/root" if user is None else f"/home/{user}" if machine == "laptop" else f"{s.shared}/home/{user}"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": home, "USER": user or "root", "LANG": "C.UTF-8"}


def off(s: Settings, machine: str) -> None:
    """Switch a machine off: everything on it is gone at once, and nobody is told."""
    if found := first(s, machine):
        end([found], number=signal.SIGKILL)
    if begun := recorded(record(s, machine)):
        end([begun], number=signal.SIGKILL)


def remove_groups(number: int) -> None:
    """Remove what is left of the control groups; a process that just ended may hold one for a moment."""
    for one in CONTROLLERS:
        top = CGROUPS / one / f"sd{number}"
        waited(lambda top=top: not remove_tree(top), 5)  # type: ignore[misc]


def remove_tree(top: Path) -> bool:
    """Return True while something is left."""
    if not top.is_dir():
        return False
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:
            return True
    return False
