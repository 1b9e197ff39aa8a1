"""Starts Apptainer as a child and lives beside it, so that nothing in the container outlives the launcher.

Apptainer's starter drops the wish to die with its parent (PR_SET_PDEATHSIG) and passes no signal on where no terminal
is. A process of its own, run with next to nothing imported; it ends as Apptainer does.
"""

from __future__ import annotations

import os
import select
import signal


def main(launcher: int, words: list[str]) -> int:
    """Run `words`; end what they started as soon as the process `launcher`, the parent of this one, has ended."""
    above = os.pidfd_open(launcher)
    if os.getppid() != launcher:
        return 125
    child = os.posix_spawn(words[0], words, os.environ)
    here = os.pidfd_open(child)
    if above in select.select([above, here], [], [])[0]:
        end(child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return code


def end(pid: int) -> None:
    """Kill the first process of the container below a process, and with it every other one there."""
    for target in init_of(pid) or children(pid):
        send(target, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """Send a signal; to a process that has ended it changes nothing."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def init_of(pid: int) -> list[int]:
    """Return the processes below a process that are number 1 of a PID namespace (proc_pid_status(5), NSpid)."""
    found = []
    for child in children(pid):
        inside = numbers(child)
        found += [child] if len(inside) > 1 and inside[-1] == "1" else init_of(child)
    return found


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, oldest first."""
    found: list[int] = []
    for thread in threads(pid):
        found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return sorted(found)


def threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return []


def numbers(pid: int) -> list[str]:
    """Return a process's number in each PID namespace that it is in, this one's first."""
    lines = read(f"/proc/{pid}/status").splitlines()
    return next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])


def read(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ""
