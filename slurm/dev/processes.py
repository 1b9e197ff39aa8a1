"""Processes by their recorded ids: a number counts only with the time its process started at, so none is mistaken."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class ClusterError(Exception):
    """Something did not come up; the text says what, and where to look."""


def stat(pid: int) -> tuple[str, str] | None:
    """Return (state, start time) of a process that is there (proc(5), /proc/PID/stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def identity(pid: int) -> str:
    """Return "PID START", which no later process has."""
    found = stat(pid)
    return f"{pid} {found[1]}" if found else f"{pid} gone"


def living(who: str) -> int | None:
    """Return the pid of an identity whose process is still there, and no zombie."""
    pid, _, start = who.partition(" ")
    found = stat(int(pid))
    return int(pid) if found and found[1] == start and found[0] not in "ZX" else None


def recorded(path: Path) -> int | None:
    try:
        return living(path.read_text())
    except (OSError, ValueError):
        return None


def child(pid: int) -> int | None:
    """Return the only child of a process: of `unshare --fork` and `nsenter` it is the program itself."""
    with contextlib.suppress(OSError):
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found[0]) if found else None
    return None


def start(args: Sequence[str], record: Path, log: Path) -> None:
    """Start a program that outlives this one, and write down who it is."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, cwd="/"
        )
    record.write_text(identity(process.pid))


def end(pids: Sequence[int], *, number: int = signal.SIGTERM, patience_s: float = 10) -> None:
    """Send a signal and wait until all are gone; after `patience_s` they are killed."""
    whos = [identity(pid) for pid in pids]
    send(pids, number)
    if not waited(lambda: not any(map(living, whos)), patience_s):
        send([pid for who in whos if (pid := living(who))], signal.SIGKILL)
        waited(lambda: not any(map(living, whos)), 10)


def send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def waited(condition: Callable[[], object], seconds: float, every_s: float = 0.03) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(every_s)
    return True


def call(*args: str, check: bool = True, **more: object) -> str:
    """Run a program to its end and return what it printed. Raises ClusterError with its last words."""
    done = subprocess.run(args, capture_output=True, text=True, **more)  # type: ignore[call-overload]
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(args[:6])}: {done.stderr.strip()[-1500:] or f'code {done.returncode}'}")
    return str(done.stdout)
