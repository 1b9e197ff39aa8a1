"""The runner on the other nodes of an attempt: the same command with the same folder, started after the leader's.

Nothing is claimed, stored or recorded here: one runner of an attempt does that, on its first node. The folder
lies where all of them see it, so checkpoints, outputs and output of every node are the leader's to ship.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from launcher.runner import command
from launcher.runner.clock import say
from launcher.runner.environment import command_environment
from launcher.runner.others import Left
from launcher.runner.signals import Signals
from launcher.runner.tee import Tee

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.runner.attempt import Attempt

GOING = "going"
LOOK_S = 0.1


def tell(attempt: Attempt) -> None:
    """Say in the run's folder that the leader's command has begun, by a rename: nobody reads half of it."""
    part = attempt.path(f".{GOING}")
    with open(part, "w") as stream:
        stream.write(str(attempt.number))
    os.replace(part, attempt.path(GOING))


def run(attempt: Attempt) -> int:
    """Run the command from when the leader's has begun to its end; return its exit code as a shell gives it."""
    signals = Signals(attempt.times["grace_s"], lambda name, stops, forwarded: None)
    try:
        wait(attempt, signals)
        child = command.start(attempt.argv, attempt.cwd, command_environment(attempt, os.environ))
    except command.NotStarted as e:
        say(e.reason)
        return e.code
    signals.watch(child)
    tee = Tee(child, Left(attempt), signals)
    try:
        code, _ = command.exit_of(tee.until_end())
        tee.drain(attempt.times["left_s"])
    except BaseException:  # a bug here must not leave the command alone
        child.send(signal.SIGKILL)
        raise
    return code


def wait(attempt: Attempt, signals: Signals) -> None:
    """Return when the leader's command has begun. Raises NotStarted when somebody asks to stop before."""
    while not has_begun(attempt):
        signals.refuse_early()
        time.sleep(LOOK_S)


def has_begun(attempt: Attempt) -> bool:
    with contextlib.suppress(OSError), open(attempt.path(GOING)) as stream:
        return stream.read() == str(attempt.number)
    return False
