"""The files of a run's folder on a box: its state, who holds it, and whether somebody wants it to end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launcher.box.model import Order, State, order_from, state_from
from launcher.box.needing import Need, need
from launcher.cache import disk_full, written_whole
from launcher.errors import TargetError
from launcher.profiles.places import Places
from launcher.runner.clock import stamp

ORDER, STATE, HELD, CANCEL, LOG = "order.json", "state.json", "held", "cancel", "log"
RELAYED, STARTING = "relayed", "starting"
MOMENT_S = 0.5
ROOM = "free some there: `launcher target clean` removes what nobody needs"


def folder(shared: str, run: str) -> Path:
    return Path(Places(shared).job(run))


def folders(shared: str) -> list[Path]:
    """Return the folders of all runs that launcher's folder on the box has, by their names."""
    return sorted(path.parent for path in Path(Places(shared).job("*")).parent.glob(f"*/{ORDER}"))


def order(run: Path) -> Order:
    """Read the order in a run's folder. Raises TargetError when it is none, or was written by a newer launcher."""
    try:
        return order_from(json.loads((run / ORDER).read_bytes()))
    except FileNotFoundError as e:
        hint = f"it did not begin there, or was removed: `launcher resume {run.name} --on TARGET` begins it"
        raise TargetError(f"there is no run {run.name} on {os.uname().nodename}", hint=hint) from e
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise TargetError(f"{run / ORDER} is no order: {e}", hint="launch again") from e


def read(run: Path) -> State:
    """Return how a run stands, and whether its host side lives; one that has not begun waits. Raises TargetError."""
    alive = is_alive(run)
    try:
        found = state_from(json.loads((run / STATE).read_bytes()))
        return replace(found, alive=alive, credentials="" if found.over else wants(run))
    except FileNotFoundError:
        node = os.uname().nodename
        told = order(run)
        found = State(run=told.run, phase="waiting", when=stamp(), why="it has not begun", node=node, alive=alive)
        return replace(found, credentials=need(told))
    except (OSError, TypeError, ValueError) as e:
        raise TargetError(f"{run / STATE} can't be read: {e}", hint="is the box's disk sound?") from e


def wants(run: Path) -> Need:
    """Say whether a run wants credentials; one whose order can't be read wants none."""
    try:
        return need(order(run))
    except TargetError:
        return ""


def write(run: Path, state: State) -> None:
    """Replace the state. Raises DiskFullError, OSError."""
    told = {name: value for name, value in state.to_json().items() if name not in ("alive", "credentials")}
    with disk_full(run, ROOM), written_whole(run / STATE) as part:
        part.write_text(json.dumps(told))


@contextlib.contextmanager
def held(run: Path) -> Iterator[bool]:
    """Hold a run as its host side; give False when another one does. It ends with this process.

    The file is inherited by nobody (O_CLOEXEC): a container that outlives its host side is no host side.
    """
    descriptor = os.open(run / HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        mine = taken(descriptor)
        if mine:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield mine
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def changing(run: Path) -> Iterator[None]:
    """Keep others from starting a run, or from removing it, for a moment. Makes its folder where there is none."""
    while (descriptor := entered(run)) is None:
        continue
    try:
        yield
    finally:
        os.close(descriptor)


def entered(run: Path) -> int | None:
    """Return the locked descriptor of a run's folder as it is now; None when it was removed meanwhile."""
    with disk_full(run.parent, ROOM):
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(run / STARTING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), (run / STARTING).stat()):
            return descriptor
    os.close(descriptor)
    return None


def taken(descriptor: int) -> bool:
    """Take the lock; somebody who only looks holds it for a moment."""
    until = time.monotonic() + MOMENT_S
    while not (mine := locked(descriptor, fcntl.LOCK_EX)) and time.monotonic() < until:
        time.sleep(0.02)
    return mine


def is_alive(run: Path) -> bool:
    """Tell whether a host side holds the run."""
    try:
        descriptor = os.open(run / HELD, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(run: Path) -> int | None:
    """Return the number of the living host side's process; None when there is none."""
    if not is_alive(run):
        return None
    try:
        return int((run / HELD).read_text() or 0) or None
    except (OSError, ValueError):
        return None


def ask_to_cancel(run: Path) -> None:
    """Leave word that nobody wants the run any more."""
    with disk_full(run, ROOM):
        (run / CANCEL).touch()


def is_cancelled(run: Path) -> bool:
    return (run / CANCEL).exists()
