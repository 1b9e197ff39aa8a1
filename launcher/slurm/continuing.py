"""Submits what has waited for the site's limit, from a node whose task has just ended: one at a time for each sweep.

Who comes while another one is at it leaves a mark, and the other one looks once more. The task itself is still in the
queue then, so the very last place of a limit is only used by a `launcher submit`, `status` or `wait`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from launcher.node import order as orders
from launcher.node.order import Order
from launcher.slurm import places
from launcher.slurm.door import here
from launcher.slurm.model import Report


def go_on(path: Path) -> Report | None:
    """Bring forward the sweep of an order; None when somebody else is at it, or nothing waits any more.

    Raises StoreError, TargetError, DiskFullError: the next task that ends, or `launcher submit`, tries again.
    """
    order = orders.read(path)
    shared, sweep = order.profile.shared, order.sweep
    mark, report = places.again(shared, sweep), None
    mark.touch()
    while mark.exists() and places.waiting(shared, sweep).exists():
        with alone(places.continue_lock(shared, sweep)) as mine:
            if not mine:
                return report
            mark.unlink(missing_ok=True)
            report = once(order)
    return report


def once(order: Order) -> Report:
    from launcher.records.sweeps import cancelled
    from launcher.slurm.submission import repair
    from launcher.store import open

    store = open(order.store)
    return repair(store, order.sweep, door=here(order.profile), cancelled=cancelled(store, order.sweep))


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock, or say that somebody else does. Where files can't be locked, nobody is kept out."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
    finally:
        os.close(descriptor)
