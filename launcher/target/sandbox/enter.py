"""Inside half of the sandbox: a small program that makes the namespaces, starts the command and watches it.

Three processes of it live beside the command's own: the outer one, child of the launcher, whose death ends
everything; the init, process 1 of the new PID namespace, which reaps orphans and passes signals on; and for a
moment the command before its execve(2). Only light modules are imported, and the plan comes as `marshal` bytes,
since the interpreter on both sides is the same: importing json, typing or signal would cost more than all the mounts.

What happened is told on the report pipe, one line each: `started`, `refused STEP ERRNO WHAT`, `ended WAITSTATUS`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself, without the enums around it
import marshal
import os

from launcher.target.sandbox import kernel
from launcher.target.sandbox.root import Refused, build_root, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

NAMESPACES = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
EVERY_SIGNAL = set(range(1, _signal.NSIG)) - {32, 33}  # 32 and 33 belong to the C library
FATAL_FAULTS = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGILL, _signal.SIGFPE}
NOT_STARTED = 125


def main(plan_fd: int, report_fd: int) -> NoReturn:
    """Read the plan, run the command, exit as it did (128 + n for signal n)."""
    with open(plan_fd, "rb") as stream:
        plan: dict[str, Any] = marshal.load(stream)
    os.set_inheritable(report_fd, False)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, EVERY_SIGNAL - FATAL_FAULTS)
    try:
        outer(plan, report_fd)
    except Refused as e:
        tell(report_fd, f"refused {e}")
        os._exit(NOT_STARTED)


def outer(plan: dict[str, Any], report_fd: int) -> NoReturn:
    """Live outside: enter the namespaces, start the init, die with the launcher."""
    with step("namespaces"):
        unshare_as(plan["uid"], plan["gid"], network=plan["network"])
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _signal.SIGKILL)  # after unshare, which clears it
    if os.getppid() != plan["parent"]:
        os._exit(NOT_STARTED)
    ready, go = os.pipe(), os.pipe()
    with step("fork"):
        child = os.fork()
    if child == 0:
        close(ready[0], go[1])
        init(plan, report_fd, ready[1], go[0])
    close(ready[1], go[0])
    os.read(ready[0], 1)
    os.write(go[1], b"g") if os.getppid() == plan["parent"] else os._exit(NOT_STARTED)
    os._exit(exit_code(watch(child)))


def unshare_as(uid: int, gid: int, *, network: bool) -> None:
    """Make the namespaces, keeping the numbers that this user has (user_namespaces(7)).

    Without `network` there is a namespace with nothing in it but a loopback that is down (network_namespaces(7)).
    """
    kernel.unshare(NAMESPACES if network else NAMESPACES | kernel.CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)


def init(plan: dict[str, Any], report_fd: int, ready: int, go: int) -> NoReturn:
    """Be process 1: die with the outer process, build the root, start the command, watch it."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _signal.SIGKILL)
    os.write(ready, b"r")
    if not os.read(go, 1):
        os._exit(NOT_STARTED)  # the outer process died before this one could be tied to it
    close(ready, go)
    try:
        build_root(plan)
        with step("privileges"):
            give_up_privileges()
        child = start(plan, report_fd)
    except Refused as e:
        tell(report_fd, f"refused {e}")
        os._exit(NOT_STARTED)
    close(0, 1, 2)  # so that a reader of the output sees its end when the command's last process ends
    status = watch(child)
    tell(report_fd, f"ended {status}")
    os._exit(exit_code(status))


def give_up_privileges() -> None:
    """Keep no capability and no way to one; hide this process's memory and files from the command."""
    kernel.drop_bounding_set()
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def start(plan: dict[str, Any], report_fd: int) -> int:
    """Start the command in a session of its own; return its process id once it is running."""
    broken, told = os.pipe()
    with step("fork"):
        child = os.fork()
    if child == 0:
        os.close(broken)
        execute(plan, told)
    os.close(told)
    with open(broken, "rb") as stream:
        if problem := stream.read():
            raise Refused(problem.decode(errors="surrogateescape"))
    tell(report_fd, "started")
    return child


def execute(plan: dict[str, Any], told: int) -> NoReturn:
    """Become the command; tell why not."""
    try:
        with step("cwd"):
            os.setsid()
            os.umask(plan["umask"])
            os.chdir(plan["cwd"])
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores these, and that is inherited
                _signal.signal(number, _signal.SIG_DFL)
        with step("execve"):
            run_program(plan["argv"], plan["env"])
    except BaseException as e:
        os.write(told, str(e).encode(errors="surrogateescape"))
    os._exit(NOT_STARTED)


def run_program(argv: list[str], env: dict[str, str]) -> NoReturn:
    """execvpe(3) without what os.execvpe imports: a name without a slash is looked for along PATH."""
    *others, last = ["" if "/" in argv[0] else folder + "/" for folder in env.get("PATH", "/usr/bin:/bin").split(":")]
    for folder in others:
        with passing_over(FileNotFoundError, NotADirectoryError):
            os.execve(folder + argv[0], argv, env)
    os.execve(last + argv[0], argv, env)


def watch(child: int) -> int:
    """Reap every process and pass every signal on until `child` has ended; return its wait status."""
    while True:
        number = _signal.sigwait(EVERY_SIGNAL)
        if number == _signal.SIGCHLD:
            ended = reap(child)
            if ended is not None:
                return ended
        else:
            with passing_over(ProcessLookupError):
                os.kill(child, number)


def reap(child: int) -> int | None:
    """Take every ended process; return the wait status of `child` if it is among them."""
    found = None
    with passing_over(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = status
    return found


def exit_code(status: int) -> int:
    """Return what a shell would make of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def tell(report_fd: int, line: str) -> None:
    with passing_over(OSError):
        os.write(report_fd, (line + "\n").encode(errors="surrogateescape"))


class passing_over:  # noqa: N801 - contextlib.suppress, without what contextlib imports
    def __init__(self, *kinds: type[BaseException]) -> None:
        self.kinds = kinds

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, self.kinds)
