"""Inside half of the sandbox: a small program that makes the namespaces, builds the root and watches the command.

Three processes of it live beside the command's own: the outer one, child of the launcher, whose death ends
everything; the init, process 1 of the new PID namespace, which reaps orphans and passes signals on; and for a
moment the command before its execve(2). Only light modules are imported, and the plan comes as `marshal` bytes,
since the interpreter on both sides is the same: importing json, typing or signal would cost more than all the mounts.

What happened is told on the report pipe, one line each: `started`, `refused STEP ERRNO WHAT`, `ended WAITSTATUS`.
"""

# ruff: noqa: PTH102, PTH103, PTH110, PTH112, PTH120, PTH211
# pathlib costs more than everything that is done here
from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself, without the enums around it
import marshal
import os

from launcher.target.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

NAMESPACES = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
EVERY_SIGNAL = set(range(1, _signal.NSIG)) - {32, 33}  # 32 and 33 belong to the C library
FATAL_FAULTS = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGILL, _signal.SIGFPE}
NOT_STARTED = 125


class Refused(Exception):  # noqa: N818 - the word of the report
    """A step that the kernel refused."""


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
        unshare_as(plan["uid"], plan["gid"])
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


def unshare_as(uid: int, gid: int) -> None:
    """Make the namespaces, keeping the numbers that this user has (user_namespaces(7))."""
    kernel.unshare(NAMESPACES)
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


def build_root(plan: dict[str, Any]) -> None:
    """Mount everything, then leave the host's files behind."""
    os.umask(0)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    stage = plan["stage"]
    with step("stage"):
        kernel.mount("tmpfs", stage, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
        os.mkdir(f"{stage}/root")
    with step("root"):
        mount_root(stage, plan["lower"])
    for action, *words in plan["actions"]:
        with step(action):
            ACTIONS[action](f"{stage}/root", *words)
    with step("pivot"):
        kernel.pivot_root(f"{stage}/root")


def mount_root(stage: str, lower: list[str]) -> None:
    """Mount the image: an overlay of its trees, the topmost first, or the one tree that they were merged into.

    The trees are named through short links, since all options of a mount must fit into one page.
    """
    if len(lower) == 1:
        return kernel.bind(lower[0], f"{stage}/root", writable=False)
    for number, folder in enumerate(lower):
        os.symlink(folder, f"{stage}/{number}")
    os.chdir(stage)
    names = ":".join(str(number) for number in range(len(lower)))
    flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    return kernel.mount("overlay", "root", "overlay", flags, f"lowerdir={names},userxattr")


def place(root: str, target: str) -> str:
    """Return where `target` lies below the new root; a symbolic link on the way would lead out of it."""
    path = root + target
    if os.path.realpath(path) != os.path.realpath(root) + target:
        raise Refused(f"link 40 {target}")
    return path


def bind(root: str, source: str, target: str, writable: bool) -> None:
    kernel.bind(source, place(root, target), writable=writable)


def bind_if_there(root: str, source: str, target: str, writable: bool) -> None:
    if os.path.exists(source) and os.path.lexists(root + target):
        bind(root, source, target, writable)


def freeze_if_there(root: str, target: str) -> None:
    if os.path.exists(root + target):
        kernel.bind(root + target, place(root, target), writable=False)


def hide_if_there(root: str, target: str) -> None:
    if os.path.isdir(root + target):
        flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("tmpfs", place(root, target), "tmpfs", flags, "mode=0555,size=4k")


def mount(root: str, kind: str, target: str, flags: int, options: str) -> None:
    kernel.mount(kind, place(root, target), kind, flags, options)


def seal(root: str, target: str) -> None:
    kernel.remount_read_only(root + target)


def folder(root: str, target: str) -> None:
    os.makedirs(root + target, 0o755, exist_ok=True)


def file(root: str, target: str) -> None:
    folder(root, os.path.dirname(target))
    os.close(os.open(root + target, os.O_CREAT | os.O_WRONLY, 0o644))


def link(root: str, text: str, target: str) -> None:
    os.symlink(text, root + target)


ACTIONS: dict[str, Callable[..., None]] = {
    "bind": bind,
    "bind-if-there": bind_if_there,
    "freeze-if-there": freeze_if_there,
    "hide-if-there": hide_if_there,
    "mount": mount,
    "seal": seal,
    "folder": folder,
    "file": file,
    "link": link,
}


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


class step:  # noqa: N801 - reads as a statement
    """Names what is being done; an OSError within becomes a refusal `STEP ERRNO WHAT`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Refused(f"{self.name} {error.errno} {error.filename or ''}") from error
