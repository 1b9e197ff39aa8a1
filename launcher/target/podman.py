"""Containers in Podman, through its command line: what the Docker runtime does, in Podman's words."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.gpu.model import Device
from launcher.image.export import check_layers, write_archive
from launcher.process import last_lines, run, start
from launcher.target.docker import ANSWER_S, LABEL, name_of
from launcher.target.driver_files import driver_files
from launcher.target.gpus import cdi_known, cdi_names
from launcher.target.model import Container, Ending, Mount, StillRunning

NETWORK = "LAUNCHER_PODMAN_NETWORK"
TMP = "/tmp:rw,exec,nosuid,nodev,mode=1777"
ALIVE = ("running", "paused", "stopping")
HINTS = {  # a word of Podman's, and what the machine lacks when it says so
    "keep-id requires": "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER; "
    "or run with --runtime sandbox, which needs no such range",
    "rlimit": "this root may not raise limits: put `default_ulimits = []` under [containers] of containers.conf",
    "cgroup": 'with cgroups of version 1, put `runtime = "runc"` and `cgroup_manager = "cgroupfs"` under [engine] of '
    "containers.conf",
    "/dev/net/tun": f"set {NETWORK} to `host` or `none`",
}


class Podman:
    """A Runtime. Rootless, the user keeps the number that it has outside (--userns=keep-id)."""

    name = "podman"

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def refusal(self) -> str | None:
        """Return why there is no Podman, or None when there is one."""
        return None if shutil.which("podman") else "there is no program `podman` on this machine"

    def start(self, container: Container) -> PodmanProcess:
        """Load the image where Podman lacks it, and start. Raises TargetError, StillRunning, DiskFullError.

        What the OCI runtime has to say against a container comes out of `podman init`; so once that has passed, the
        output and the exit code of `podman start` are the program's.
        """
        if reason := self.refusal():
            raise TargetError(reason, hint="install it, or run with --runtime sandbox")
        self.load(container)
        create(container)
        try:
            ask("init", name_of(container.run))
            return PodmanProcess(name_of(container.run))
        except BaseException:
            run(["podman", "rm", "--force", "--ignore", name_of(container.run)], check=False)
            raise

    def load(self, container: Container) -> None:
        """Put the image into Podman's storage, unless it is there with the same layers."""
        image = container.image
        if loaded_layers(image.tag) == image.diff_ids:
            return
        check_layers(image)
        with self.cache.scratch() as scratch:
            write_archive(image, scratch / "image.tar")
            ask("load", "--quiet", "--input", str(scratch / "image.tar"))
        if loaded_layers(image.tag) != image.diff_ids:
            raise TargetError(f"Podman holds other layers under {image.tag} than were sent to it")


def loaded_layers(tag: str) -> list[str]:
    """Return the diff_ids of an image in Podman's storage; none when it isn't there."""
    template = "{{range .RootFS.Layers}}{{.}} {{end}}"  # they are no strings, so `join` refuses them
    return run(["podman", "image", "inspect", "--format", template, tag], check=False).stdout.decode().split()


def create(container: Container) -> None:
    """Create the container; where its name is taken, by what a killed launcher left, look whether that still runs."""
    try:
        ask(*arguments(container))
    except TargetError:
        if not (status := status_of(name := name_of(container.run))):
            raise
        if status in ALIVE:
            raise StillRunning(
                f"an attempt of {container.run} is still running, in the container {name}",
                hint=f"`launcher logs -f {container.run}` follows it; `podman stop {name}` ends it",
            ) from None
        ask("rm", "--force", name)
        ask(*arguments(container))


def status_of(name: str) -> str:
    """Return a container's status in Podman's words, or nothing when there is no such container."""
    asked = ["podman", "container", "inspect", "--format", "{{.State.Status}}", name]
    return run(asked, check=False).stdout.decode().strip()


def process_1(name: str) -> int:
    """Return the number, on this machine, of the first process of a running container; 0 when it doesn't run."""
    asked = ["podman", "container", "inspect", "--format", "{{if .State.Running}}{{.State.Pid}}{{end}}", name]
    return int(run(asked, check=False).stdout.strip() or 0)


def listens(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal (proc_pid_status(5), SigCgt)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def ask(*words: str) -> None:
    """Call podman. Raises TargetError with its last words."""
    done = run(["podman", *words], check=False)
    if done.returncode:
        said = last_lines(done)
        hint = next((hint for word, hint in HINTS.items() if word in said), "`podman info` tells more")
        raise TargetError(f"Podman refused{said}", hint=hint)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How GPUs are shown to a container: by words of the command line, and by mounts."""

    words: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


def gpu_request(gpus: Sequence[Device]) -> Shown:
    """Return how GPUs are asked for: by their CDI names, else the device files and the driver's libraries themselves.

    CDI: podman-run(1), `--device`, from Podman 4.1 on. Raises TargetError when the driver isn't whole.
    """
    if not gpus:
        return Shown()
    if names := cdi_names(gpus, cdi_known(gpus)):
        return Shown(words=tuple(word for name in names for word in ("--device", name)))
    found = driver_files(gpus)
    words = tuple(word for path in found.devices for word in ("--device", path))
    return Shown(words=words, mounts=tuple(found.mounts))


def arguments(container: Container, shown: Shown | None = None) -> list[str]:
    """Return what follows `podman`. Pure but for this machine's memory and the user's own choice of a network.

    `shown` says how the container's GPUs are asked for; None finds out.
    """
    shown = gpu_request(container.gpus) if shown is None else shown
    shared = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # as a tmpfs of the kernel has
    words = ["create", "--rm", "--name", name_of(container.run), "--label", f"{LABEL}={container.run}"]
    words += ["--read-only", "--read-only-tmpfs=false", "--tmpfs", TMP, "--shm-size", f"{shared}b"]
    words += ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--ulimit", "host"]
    words += ["--security-opt", "label=disable"]  # SELinux would hide the mounts, unless their files are relabelled
    words += [
        "--network",
        os.environ.get(NETWORK, "host") if container.network else "none",
        "--http-proxy=false",
        "--log-driver",
        "none",
    ]
    words += ["--workdir", container.cwd, "--pull", "never", "--user", f"{container.user}:{container.group}"]
    words += ["--userns", "keep-id"] if container.user else []
    for name, value in container.env.items():
        words += ["--env", f"{name}={value}"]
    words += shown.words
    for mount in sorted([*container.mounts, *shown.mounts], key=lambda mount: mount.target.count("/")):
        words += ["--mount", mounted(str(mount.source), mount.target, mount.writable)]
    return [*words, "--entrypoint", container.argv[0], container.image.tag, *container.argv[1:]]


def mounted(source: str, target: str, writable: bool) -> str:
    """Return a --mount word, which is read as one line of CSV."""
    fields = ["type=bind", f"source={source}", f"target={target}", f"ro={'false' if writable else 'true'}"]
    quoted = ('"' + field.replace('"', '""') + '"' if set(field) & set(',"\n') else field for field in fields)
    return ",".join(quoted)


class PodmanProcess:
    """A container that was made ready, and the podman process that starts it and passes its output on."""

    def __init__(self, name: str) -> None:
        self.name = name
        # without its warnings, which would get among the program's own words
        self.popen = start(["podman", "--log-level", "fatal", "start", "--attach", "--sig-proxy=false", name])

    def signal(self, number: int) -> None:
        """Pass a signal on, once process 1 of the container listens: before that, the kernel drops it.

        One that comes when all is over changes nothing. See pid_namespaces(7) about signals for process 1.
        """
        until = time.monotonic() + ANSWER_S
        words = ["podman", "kill", "--signal", str(int(number)), self.name]
        while self.popen.poll() is None and time.monotonic() < until:
            heard = number == SIGKILL or listens(process_1(self.name), number)
            if heard and not run(words, check=False).returncode:
                return
            time.sleep(0.02)

    def wait(self) -> Ending:
        """Wait for the container's end, even when the podman process that shows its output is killed before."""
        code = self.popen.wait()
        if code >= 0:
            return Ending(code=code)
        told = run(["podman", "wait", self.name], check=False).stdout.strip()
        return Ending(code=int(told)) if told else Ending(signal=-code, lost="the podman process was killed")
