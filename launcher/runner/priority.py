"""Storing must not be felt by the training: what stores gives way to the command wherever both want a core.

Linux keeps the nice value for each thread, and a thread that is started takes over its starter's (sched(7)). Where
autogrouping is on, nice values count only inside a session, so there the runner's whole session gives way.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NICE = 19
AUTOGROUP = "/proc/self/autogroup"


def give_way() -> None:
    """Give the calling thread, and those that it starts, the lowest weight, and no preemption of others (SCHED_BATCH).

    The weight of the disk's queue follows from it (ioprio_set(2)). What a kernel refuses is left out.
    """
    yield_to_others(threading.get_native_id())


def yield_to_others(thread: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # musl has no sched_setscheduler
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, NICE)


def library_gives_way(but: set[int]) -> None:
    """Do the same for the threads that obstore has started, which are all but the runner's own (`but`, by number)."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/task"):
            if int(name) not in but:
                yield_to_others(int(name))


@contextlib.contextmanager
def session_gives_way(own: bool) -> Iterator[None]:
    """Give the runner's session the lowest weight against the command's, which is another one, for a while.

    Only for a while, because it counts against every other session as well, and heartbeats are this session's too.
    Only when the session is the runner's own, as it sees itself or as it was told: a shell that it was started from
    must not get slow.
    """
    weigh_session(own, NICE)
    try:
        yield
    finally:
        weigh_session(own, 0)


def weigh_session(own: bool, nice: int) -> None:
    """Set the nice value of the session's autogroup. The kernel takes one such change in a tenth of a second."""
    if not own and os.getpid() != os.getsid(0):
        return
    for _ in range(3):
        try:
            with open(AUTOGROUP, "w") as stream:
                stream.write(str(nice))
            return
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return
