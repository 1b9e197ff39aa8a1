"""Starting the command and reading how it ended, with the exit codes that shells use."""

from __future__ import annotations

import contextlib
import errno
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_EXECUTABLE = 126
NOT_FOUND = 127
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RESTORED = (*FORWARDED, signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE, signal.SIGXFSZ)  # to their defaults


class NotStarted(Exception):  # noqa: N818  (a fact about the command, told by its exit code)
    """The command did not start. `code` is 127 or 126, `reason` is for a person.

    `by` is "node" when the command was not to blame, and the code then 78.
    """

    def __init__(self, code: int, reason: str, by: str | None = None) -> None:
        self.code, self.reason, self.by = code, reason, by
        super().__init__(reason)


class Command:
    """A running command in a session of its own. `stdout` and `stderr` are descriptors to read from."""

    def __init__(self, pid: int, stdout: int, stderr: int) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr

    def send(self, signum: int) -> bool:
        """Signal the command's process group. Return whether anybody of it is left."""
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def start(argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> Command:
    """Start a command with stdin from /dev/null. Raises NotStarted."""
    try:
        os.chdir(cwd)
    except OSError as e:
        raise NotStarted(NOT_FOUND, f"the working directory {cwd} can't be entered: {e.strerror}") from e
    program = find(argv[0], env.get("PATH", ""))
    keep_descriptors_from_children()
    null = os.open(os.devnull, os.O_RDONLY)
    out_read, out_write = wide_pipe()
    err_read, err_write = wide_pipe()
    copies = [(os.POSIX_SPAWN_DUP2, source, to) for source, to in ((null, 0), (out_write, 1), (err_write, 2))]
    try:
        pid = os.posix_spawn(
            program, list(argv), env, file_actions=copies, setsid=True, setsigmask=[], setsigdef=list(RESTORED)
        )
    except (OSError, ValueError) as e:
        os.close(out_read)
        os.close(err_read)
        raise refusal(argv[0], program, e) from e
    finally:
        for descriptor in (null, out_write, err_write):
            os.close(descriptor)
    return Command(pid, out_read, err_read)


def find(name: str, path: str) -> str:
    """Return the program that `name` means on `path`, as execvp(3) looks for it. Raises NotStarted."""
    if not name:
        raise NotStarted(NOT_FOUND, "the command is empty")
    if "/" in name:
        return name
    refused = None
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            refused = refused or candidate
    if refused:
        raise NotStarted(NOT_EXECUTABLE, f"{refused} is not executable")
    raise NotStarted(NOT_FOUND, f"there is no program `{name}` in the image (PATH is {path})")


def refusal(name: str, program: str, error: OSError | ValueError) -> NotStarted:
    """Return why exec failed, with the code that a shell would give."""
    if isinstance(error, ValueError):
        return NotStarted(NOT_EXECUTABLE, f"`{name}` can't be started: {error}")
    if error.errno == errno.ENOENT and not os.path.exists(program):
        return NotStarted(NOT_FOUND, f"there is no program `{name}` in the image")
    if error.errno == errno.ENOENT:
        return NotStarted(NOT_EXECUTABLE, f"the interpreter that the first line of {program} names is not there")
    if error.errno == errno.ENOEXEC:
        return NotStarted(NOT_EXECUTABLE, f"{program} is no program, or a script without a `#!` line")
    return NotStarted(NOT_EXECUTABLE, f"{program} can't be started: {error.strerror}")


def wide_pipe() -> tuple[int, int]:
    """Return a pipe that holds 256 KiB, where the kernel allows it, so that a burst of output doesn't wait."""
    import fcntl

    read, write = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, 1031, 1 << 18)  # F_SETPIPE_SZ, in the module since 3.10 on glibc only
    return read, write


def keep_descriptors_from_children() -> None:
    """Mark what was inherited, apart from the first three, to be closed at exec."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with contextlib.suppress(OSError):
                    os.set_inheritable(int(name), False)


def reap(pid: int) -> int | None:
    """Return the command's wait status once it has ended. As PID 1, collect orphans too: nobody else will."""
    target = -1 if os.getpid() == 1 else pid
    with contextlib.suppress(ChildProcessError):
        while True:
            found, status = os.waitpid(target, os.WNOHANG)
            if found == 0:
                return None
            if found == pid:
                return status
    return None


def exit_of(status: int) -> tuple[int, str | None]:
    """Return (exit code as a shell gives it, name of the signal that ended it or None)."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (128 - code, signal_name(-code))


def signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"  # a real-time one
