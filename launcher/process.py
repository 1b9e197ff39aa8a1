"""The one door for subprocesses: an argument list, a checked exit code, the last lines in the error."""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.errors import ProcessError

log = logging.getLogger(__name__)
LAST_LINES = 20


def run(
    args: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    hint: str | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return what it printed.

    Raises ProcessError when the program is missing, outlasts `timeout_s` (seconds), or ends with a
    non-zero code while `check` is set.
    """
    log.debug("run %s", shlex.join(args))
    try:
        done = subprocess.run(args, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=timeout_s)
    except FileNotFoundError as e:
        raise ProcessError(f"there is no program `{args[0]}` on this machine", hint=hint) from e
    except subprocess.TimeoutExpired as e:
        raise ProcessError(f"`{args[0]}` did not end within {timeout_s:g} s", hint=hint) from e
    if check and done.returncode != 0:
        raise ProcessError(f"`{shlex.join(args[:3])}` ended with code {done.returncode}{last_lines(done)}", hint=hint)
    return done


def start(
    args: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = (), hint: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that writes to this process's own stdout and stderr, and leave it running.

    It gets a session of its own: a terminal's Ctrl-C reaches it only when it is passed on. Raises ProcessError when
    the program is missing.
    """
    log.debug("start %s", shlex.join(args))
    try:
        return subprocess.Popen(
            args, stdin=subprocess.DEVNULL, env=env, cwd="/", start_new_session=True, pass_fds=pass_fds
        )
    except OSError as e:
        raise ProcessError(f"the program `{args[0]}` can't be started: {e.strerror}", hint=hint) from e


def last_lines(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the end of what a program said, for an error message."""
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return ":\n  " + "\n  ".join(said[-LAST_LINES:]) if said else ""
