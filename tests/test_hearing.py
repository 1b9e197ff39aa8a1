"""A signal that another thread gets is heard by a main thread that waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import LONG_S

WAITING = """
import contextlib, os, signal, sys, threading
from launcher.hearing import heard

def told(*_):
    os.write(1, b"heard")
    os._exit(0)

signal.signal(signal.SIGTERM, told)
threading.Thread(target=threading.Event().wait, daemon=True).start()  # as a storage library's, it takes what comes
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # as if this one had another signal to take just now
with heard() if sys.argv[1] == "heard" else contextlib.nullcontext():
    os.write(1, b"waiting ")
    os.read(0, 1)
"""


@pytest.mark.parametrize(("how", "said"), [("heard", "heard"), ("deaf", "")])
def test_a_signal_of_another_thread_is_heard_in_a_system_call(how: str, said: str) -> None:
    words = [sys.executable, "-c", WAITING, how]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(8) == "waiting "
        until_asleep(process.pid)
        process.send_signal(signal.SIGTERM)
        if said:
            assert process.stdout.read() == said
        else:
            time.sleep(1.0)
            assert process.poll() is None, "it would be heard without us: then this test shows nothing"
            process.kill()


def until_asleep(pid: int) -> None:
    """Wait until the main thread sleeps in its system call, and has slept for a moment."""
    asleep = 0
    while asleep < 5:
        state = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        asleep = asleep + 1 if state == "S" else 0
        time.sleep(0.05)


def test_it_leaves_everything_as_it_was() -> None:
    code = (
        "import signal\nfrom launcher.hearing import NUDGE, heard\nbefore = signal.getsignal(NUDGE)\n"
        "with heard():\n    assert signal.getsignal(NUDGE) is not before\n"
        "assert (signal.getsignal(NUDGE), signal.set_wakeup_fd(-1)) == (before, -1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)
