"""Signals are heard while the main thread waits, whichever thread the kernel gives them to.

Python runs its handlers in the main thread alone. A signal that comes while the main one has another to take (SIGCONT
before SIGTERM, as Slurm sends them) may go to any other thread, a storage library's say; the main one then sleeps on in
its system call, and the handler waits with it. Source: signal(7), "Execution of signal handlers"; Python's `signal`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

NUDGE = signal.SIGURG  # nobody else here uses it, and without a handler it is ignored
AGAIN_S = (0.0, 0.05, 0.5)  # once more, for a main thread that was just on its way into its system call


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Wake the main thread for each signal that has a handler, for as long as the context lasts. Enter it in there."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.signal(NUDGE, lambda *_: None)
    old = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, args=(read, threading.get_ident()), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        os.close(write)
        thread.join()
        signal.signal(NUDGE, before)
        os.close(read)


def listen(read: int, main: int) -> None:
    """Run in a thread: each signal's number comes through the pipe, by whichever thread took it."""
    while numbers := os.read(read, 512):
        if set(numbers) - {int(NUDGE)}:
            for pause_s in AGAIN_S:
                time.sleep(pause_s)
                signal.pthread_kill(main, NUDGE)
