"""Containers in Apptainer (or its sister SingularityCE), through its command line: what the sandbox does, in its words.

What Apptainer reads of its user's environment and settings is replaced, so that no APPTAINER_BIND of a login file
reaches a container. It adds variables of its own (APPTAINER_*, PS1 ...), which the runner does not pass on.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from launcher.cache import Cache, Claim, claim, sweep
from launcher.errors import ProcessError, TargetError
from launcher.process import run, start
from launcher.target import accounts
from launcher.target.apptainer_watch import children, end, init_of, send
from launcher.target.model import Container, Ending, Mount, Unusable

PROGRAMS = ("apptainer", "singularity")
OLDEST = (1, 1)  # the first whose unprivileged mode mounts a SIF by FUSE, and that knows --no-eval
OLDEST_SISTER = (3, 11)  # of SingularityCE, for the same reasons
FORM = "LAUNCHER_APPTAINER_IMAGE"
ENVIRONMENT = "/.singularity.d/env"
HOST_FILES = ("/etc/hosts", "/etc/resolv.conf")
CALL_S = 20
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BOOT = """import sys
sys.path.append(sys.argv[1])
from launcher.target.apptainer_watch import main
sys.exit(main(int(sys.argv[2]), sys.argv[3:]))"""
PACKAGES = Path(__file__).parents[2]
FLAGS = ("--containall", "--cleanenv", "--no-home", "--no-umask", "--no-eval")
NOT_MOUNTED = "tmp,home,cwd,hostfs,bind-paths"


class Apptainer:
    """A Runtime. It runs the image's SIF where that can be mounted, else a folder that the layers were merged into."""

    name = "apptainer"

    def __init__(self, cache: Cache, file: Path | None = None) -> None:
        """`file` is the SIF of the one image that will be run, where it is at hand already."""
        self.cache, self.file = cache, file

    def refusal(self) -> str | None:
        """Return why Apptainer can't be used here, or None."""
        return self.judged

    @cached_property
    def judged(self) -> str | None:
        """The refusal; found out once, for asking Apptainer costs as much as a start."""
        found = program()
        if found is None:
            return "there is no program `apptainer` on this machine"
        try:
            said = run([found, "--version"], timeout_s=CALL_S).stdout.decode(errors="replace").strip()
        except ProcessError as e:
            return str(e)
        return too_old(said) or (None if os.getuid() == 0 or is_setuid(found) else namespaces_refused())

    def start(self, container: Container) -> ApptainerProcess:
        """Start the command. Raises Unusable where Apptainer can't work, TargetError when it fails, DiskFullError."""
        found = program()
        # where the SIF is at hand a site was looked at before, and a start costs no more than the question
        if found is None or (self.file is None and (reason := self.refusal())):
            raise Unusable(
                f"no Apptainer: {reason if found else 'there is no program `apptainer` on this machine'}",
                hint="install Apptainer 1.1 or newer, or run with --runtime sandbox",
            )
        place = self.image(container)
        own = self.scratch()
        try:
            words = [found, *arguments(container, place, prepare(container, self.cache, own.folder))]
            return ApptainerProcess(words, own, str(container.argv[0]))
        except BaseException:
            own.release()
            raise

    def image(self, container: Container) -> Path:
        """Return what Apptainer is to run: a SIF, or a folder where nothing can mount one.

        A SIF that is at hand is given to Apptainer in any case, which unpacks it where it can't mount it.
        """
        if self.file is not None:
            return self.file
        if (os.environ.get(FORM) or ("sif" if can_mount() else "folder")) == "sif":
            from launcher.image.sif import sif

            return sif(container.image, self.cache)
        from launcher.target.sandbox.runtime import Sandbox

        return Sandbox(self.cache).merged(container.image)

    def scratch(self) -> Claim:
        """Return a folder that the next launcher removes if this one is killed."""
        tmp = self.cache.root / "tmp"
        tmp.mkdir(exist_ok=True)
        sweep(tmp)
        return claim(tmp)


def program() -> str | None:
    """Return the program on PATH, Apptainer before SingularityCE."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def too_old(said: str) -> str | None:
    """Judge what `--version` says: "apptainer version 1.4.5", "singularity-ce version 4.1.0"."""
    match = re.search(r"^(\S+) version (\d+)\.(\d+)", said)
    if match is None:
        return f"`--version` says {said!r}, which names no version"
    name, version = match[1], (int(match[2]), int(match[3]))
    oldest = OLDEST if name == "apptainer" else OLDEST_SISTER
    if version >= oldest:
        return None
    return f"{name} {version[0]}.{version[1]} is too old: {oldest[0]}.{oldest[1]} is the oldest that works"


def is_setuid(found: str) -> bool:
    """Tell whether Apptainer was installed with its setuid helper, which needs no user namespaces and no FUSE."""
    home = Path(found).resolve().parents[1]
    places = [*home.glob("libexec/*/bin/starter-suid"), *home.glob("lib/*/*/bin/starter-suid")]
    return any(place.stat().st_mode & 0o4000 for place in places)


def namespaces_refused() -> str | None:
    from launcher.target.sandbox import refusal

    return refusal.setting()


def can_mount() -> bool:
    """Tell whether a SIF can be mounted: by the kernel for root and for the setuid helper, by FUSE for others."""
    found = program()
    if os.getuid() == 0 or (found and is_setuid(found)):
        return True
    helper = shutil.which("squashfuse_ll") or shutil.which("squashfuse") or bundled_squashfuse(found)
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and bool(helper)


def bundled_squashfuse(found: str | None) -> bool:
    home = Path(found).resolve().parents[1] if found else Path("/nonexistent")
    return any(home.glob("libexec/*/bin/squashfuse*"))


def prepare(container: Container, cache: Cache, folder: Path) -> list[Mount]:
    """Write what Apptainer is told into `folder`, and return the mounts that show it inside.

    Accounts are the image's own, since Apptainer would add the host's line for the user to them.
    """
    for name in ("home", "tmp", "env"):
        (folder / name).mkdir()
    (folder / "tmp").chmod(0o1777)
    os.mkfifo(folder / "env" / "started", 0o600)
    (folder / "env" / "90-launcher.sh").write_text(script(container))
    mounts = [Mount(source=folder / "env", target=ENVIRONMENT, writable=True)]
    mounts += [Mount(source=folder / "tmp", target="/tmp", writable=True)]
    there = {mount.target for mount in container.mounts}
    for path, text in accounts.of_image(container.image, cache).items():
        if f"/{path}" not in there:
            file = folder / Path(path).name
            file.write_text(text)
            mounts.append(Mount(source=file, target=f"/{path}"))
    return mounts + [Mount(source=Path(path), target=path) for path in HOST_FILES if Path(path).exists()]


def script(container: Container) -> str:
    """Return what Apptainer's shell reads last before the command: the environment, and word that it got so far.

    Only a command that is there is reported, for Apptainer ends with 255 when it isn't.
    """
    lines = [f"export {name}={quoted(value)}" for name, value in container.env.items() if NAME.fullmatch(name)]
    lines += ["unset LD_LIBRARY_PATH"] if "LD_LIBRARY_PATH" not in container.env else []
    lines += [f"command -v {shlex.quote(container.argv[0])} >/dev/null && echo started >{ENVIRONMENT}/started"]
    return "\n".join([*lines, "true"]) + "\n"


def quoted(value: str) -> str:
    """Quote a value for Apptainer's own shell (mvdan/sh), which keeps the backslash of \\' in an export."""
    return "'" + value.replace("'", "'\"'\"'") + "'"


def arguments(container: Container, image: Path, added: Iterable[Mount] = ()) -> list[str]:
    """Return what follows `apptainer`. Pure but for who runs it."""
    words = ["--silent", "exec", *FLAGS, "--no-mount", NOT_MOUNTED, "--pwd", container.cwd]
    words += ["--no-privs"] if os.getuid() == 0 else []
    words += ["--nv"] if container.gpus else []
    words += [] if container.network else ["--net", "--network", "none"]
    mounts = [*added, *container.mounts]
    for mount in sorted(mounts, key=lambda mount: mount.target.count("/")):
        words += ["--mount", mounted(str(mount.source), mount.target, mount.writable)]
    return [*words, str(image), *container.argv]


def mounted(source: str, target: str, writable: bool) -> str:
    """Return a --mount word, which is read as one line of CSV."""
    fields = ["type=bind", f"source={source}", f"destination={target}", *([] if writable else ["ro"])]
    words = ('"' + field.replace('"', '""') + '"' if set(field) & set(',"\n') else field for field in fields)
    return ",".join(words)


def host_environment(folder: Path) -> Mapping[str, str]:
    """Return the environment of Apptainer itself: nothing that its user set for it."""
    home = str(folder / "home")
    path = os.environ.get("PATH", os.defpath)
    places = dict.fromkeys(("APPTAINER_CONFIGDIR", "APPTAINER_CACHEDIR", "APPTAINER_TMPDIR"), home)
    places |= {name.replace("APPTAINER", "SINGULARITY"): home for name in places}
    return {"PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin", "HOME": home, **places}


class ApptainerProcess:
    """A running container. It dies with the thread that started it."""

    def __init__(self, words: Sequence[str], own: Claim, command: str) -> None:
        self.own = own
        # both ends, so that there is always a reader, and no end of file while there is no writer (fifo(7))
        self.told = os.open(own.folder / "env" / "started", os.O_RDWR | os.O_CLOEXEC)
        try:
            boot = [sys.executable, "-I", "-S", "-c", BOOT, str(PACKAGES), str(os.getpid()), *words]
            self.popen = start(boot, env=host_environment(own.folder))
            self.await_start(command)
        except BaseException:
            os.close(self.told)
            raise

    def await_start(self, command: str) -> None:
        """Wait until the command runs. Raises TargetError when Apptainer ended without getting there."""
        process = os.pidfd_open(self.popen.pid)
        try:
            select.select([self.told, process], [], [])
            if select.select([self.told], [], [], 0)[0]:
                return
        finally:
            os.close(process)
        code = self.popen.wait()
        raise TargetError(
            f"Apptainer could not start `{command}` (code {code})",
            hint="what it says of the reason stands above; `--runtime sandbox` or another may work",
        )

    def signal(self, number: int) -> None:
        """Pass a signal on to the command itself. One that comes when all is over changes nothing.

        Apptainer and its process 1 (`appinit`) pass none on by themselves where no terminal is.
        """
        inits = init_of(self.popen.pid)
        if number == signal.SIGKILL:
            end(self.popen.pid)
        for command in (first for init in inits for first in children(init)[:1]):
            send(command, number)

    def wait(self) -> Ending:
        """Wait for the end, and remove what was written for it."""
        code = self.popen.wait()
        os.close(self.told)  # not before: Apptainer reads the script more than once
        self.own.release()
        if code < 0:
            return Ending(signal=-code, lost="the apptainer process was killed from outside")
        return Ending(code=code)
