"""The one door for subprocesses: an argument list, a checked exit code, the last lines in the error."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from launcher.errors import ProcessError

logger = logging.getLogger(__name__)
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
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return what it printed. It holds `pass_fds` open for as long as it lives.

    Raises ProcessError when the program is missing, outlasts `timeout_s` (seconds), or ends with a
    non-zero code while `check` is set.
    """
    logger.debug("run %s", shlex.join(args))
    try:
        done = subprocess.run(
            args, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=timeout_s, pass_fds=pass_fds
        )
    except FileNotFoundError as e:
        raise ProcessError(f"there is no program `{args[0]}` on this machine", hint=hint) from e
    except subprocess.TimeoutExpired as e:
        raise ProcessError(f"`{args[0]}` did not end within {timeout_s:g} s", hint=hint) from e
    if check and done.returncode != 0:
        raise ProcessError(f"`{shlex.join(args[:3])}` ended with code {done.returncode}{last_lines(done)}", hint=hint)
    return done


def pipe(
    args: Sequence[str],
    chunks: Iterable[bytes] = (),
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    hint: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, feeding it `chunks` as they come, and return what it printed and its code.

    A program that stops reading is no error by itself. Raises ProcessError when it can't be started or outlasts
    `timeout_s` (seconds), and whatever `chunks` raises; it is ended then, as it is by an interrupt.
    """
    logger.debug("pipe to %s", shlex.join(args))
    try:
        child = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    except OSError as e:
        raise ProcessError(f"the program `{args[0]}` can't be started: {e.strerror}", hint=hint) from e
    feeder = Feeder(child, chunks)
    feeder.start()
    try:
        said, complained = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as e:
        end(child)
        raise ProcessError(f"`{args[0]}` did not end within {timeout_s:g} s", hint=hint) from e
    except BaseException:
        end(child)
        raise
    feeder.join()
    if feeder.error:
        raise feeder.error
    return subprocess.CompletedProcess(args, child.returncode, said, complained)


class Feeder(threading.Thread):
    """Writes to a program's stdin while another thread reads what it prints."""

    def __init__(self, child: subprocess.Popen[bytes], chunks: Iterable[bytes], *, hold: bool = False) -> None:
        super().__init__(daemon=True)
        self.child, self.chunks, self.hold = child, chunks, hold
        self.stream, child.stdin = child.stdin, None  # so that `communicate` leaves it alone
        self.error: BaseException | None = None

    def run(self) -> None:
        assert self.stream is not None
        try:
            for chunk in self.chunks:
                self.stream.write(chunk)
            self.stream.flush()
            if not self.hold:
                self.stream.close()
        except BrokenPipeError:
            self.let_go()
        except BaseException as e:
            self.error = e
            self.child.kill()
            self.let_go()

    def let_go(self) -> None:
        """Close what was held open; what the program did not read is lost."""
        assert self.stream is not None
        with suppress(OSError):
            self.stream.close()


class Flow:
    """A program that runs while others read what it prints."""

    def __init__(self, child: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self.child, self.complaints = child, complaints

    def read(self, size: int) -> bytes:
        """Return what has come, at most `size` bytes; wait where nothing has. b"" at its end."""
        assert self.child.stdout is not None
        return os.read(self.child.stdout.fileno(), size)

    def code(self) -> int:
        """Wait for the program's end; return its code, negative for a signal."""
        return self.child.wait()

    def said(self) -> bytes:
        """Return what it has written to stderr so far."""
        return os.pread(self.complaints.fileno(), os.fstat(self.complaints.fileno()).st_size, 0)


@contextmanager
def flow(args: Sequence[str], *, stdin: bytes = b"", hold: bool = False, hint: str | None = None) -> Iterator[Flow]:
    """Run a program and read what it prints as it comes; it is killed at the end, if it still runs.

    With `hold` its stdin stays open after `stdin`, so that it can tell when whoever started it is gone. A terminal's
    Ctrl-C doesn't reach it. Raises ProcessError when it can't be started.
    """
    logger.debug("flow from %s", shlex.join(args))
    with tempfile.TemporaryFile() as complaints:
        try:
            child = subprocess.Popen(
                args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
            )
        except OSError as e:
            raise ProcessError(f"the program `{args[0]}` can't be started: {e.strerror}", hint=hint) from e
        feeder = Feeder(child, [stdin], hold=hold)
        feeder.start()
        try:
            yield Flow(child, complaints)
        finally:
            end(child)
            feeder.join()
            feeder.let_go()


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill a program and take its exit code; what it has started may go on, and is not waited for."""
    child.kill()
    child.wait()
    for stream in (child.stdout, child.stderr):
        if stream:
            stream.close()


def attend(args: Sequence[str], *, hint: str | None = None) -> tuple[int, str]:
    """Run a program that may ask the person at the terminal for something; return its exit code and its complaints.

    It reads no stdin. Where stderr is a terminal the complaints go there and "" is returned. They go through a file
    otherwise: what the program leaves running may hold it open. Raises ProcessError when the program is missing.
    """
    logger.debug("attend %s", shlex.join(args))
    with tempfile.TemporaryFile() as said:
        stderr = None if os.isatty(2) else said
        try:
            code = subprocess.call(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        except OSError as e:
            raise ProcessError(f"the program `{args[0]}` can't be started: {e.strerror}", hint=hint) from e
        said.seek(0)
        return code, said.read().decode(errors="replace")


def start(
    args: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = (), hint: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that writes to this process's own stdout and stderr, and leave it running.

    It gets a session of its own: a terminal's Ctrl-C reaches it only when it is passed on. Raises ProcessError when
    the program is missing.
    """
    logger.debug("start %s", shlex.join(args))
    try:
        return subprocess.Popen(
            args, stdin=subprocess.DEVNULL, env=env, cwd="/", start_new_session=True, pass_fds=pass_fds
        )
    except OSError as e:
        raise ProcessError(f"the program `{args[0]}` can't be started: {e.strerror}", hint=hint) from e


left: list[subprocess.Popen[bytes]] = []  # that nobody waits for: what is forgotten here would be warned of


def leave(args: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, hint: str | None = None) -> int:
    """Start a program that outlives this process, and return its number: in a session of its own, without stdin, and
    what it prints is appended to the file `log`. Raises ProcessError when it can't be started."""
    logger.debug("leave %s", shlex.join(args))
    with log.open("ab") as out:
        try:
            child = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd="/", start_new_session=True
            )
        except OSError as e:
            raise ProcessError(f"the program `{args[0]}` can't be started: {e.strerror}", hint=hint) from e
    left.append(child)
    return child.pid


def last_lines(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the end of what a program said, for an error message."""
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return ":\n  " + "\n  ".join(said[-LAST_LINES:]) if said else ""
