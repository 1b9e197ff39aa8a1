"""Containers in Podman, through its command line: what the Docker runtime does, in Podman's words."""

from __future__ import annotations

import os
import shutil

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image.export import write_archive
from launcher.process import run, start
from launcher.target.docker import LABEL, name_of
from launcher.target.model import Container, Ending

NOT_STARTED = 125  # podman-run(1), "Exit status"
NETWORK = "LAUNCHER_PODMAN_NETWORK"


class Podman:
    """A Runtime. Rootless, the user keeps the number that it has outside (--userns=keep-id)."""

    name = "podman"

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def refusal(self) -> str | None:
        """Return why there is no Podman, or None when there is one."""
        return None if shutil.which("podman") else "there is no program `podman` on this machine"

    def start(self, container: Container) -> PodmanProcess:
        """Load the image where Podman lacks it, and start. Raises TargetError, ProcessError."""
        if reason := self.refusal():
            raise TargetError(reason, hint="install it, or run with --runtime sandbox")
        self.load(container)
        run(["podman", "rm", "--ignore", name_of(container.run)], hint="an attempt of this run may still be running")
        return PodmanProcess(container)

    def load(self, container: Container) -> None:
        """Put the image into Podman's storage, unless it is there with the same layers."""
        wanted = container.image.diff_ids
        asked = ["podman", "image", "inspect", "--format", '{{join .RootFS.Layers " "}}', container.image.tag]
        if run(asked, check=False).stdout.decode().split() == wanted:
            return
        with self.cache.scratch() as scratch:
            write_archive(container.image, scratch / "image.tar")
            run(["podman", "load", "--quiet", "--input", str(scratch / "image.tar")])


def arguments(container: Container) -> list[str]:
    """Return the command line. Pure but for the user's own choice of a network."""
    words = ["podman", "run", "--rm", "--name", name_of(container.run), "--label", f"{LABEL}={container.run}"]
    words += ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"]
    words += ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--ulimit", "host"]
    words += ["--network", os.environ.get(NETWORK, "host"), "--workdir", container.cwd, "--pull", "never"]
    words += ["--user", f"{container.user}:{container.group}"]
    words += ["--userns", "keep-id"] if container.user else []
    for name, value in container.env.items():
        words += ["--env", f"{name}={value}"]
    for mount in sorted(container.mounts, key=lambda mount: mount.target.count("/")):
        words += ["--mount", mounted(str(mount.source), mount.target, mount.writable)]
    return [*words, "--entrypoint", container.argv[0], container.image.tag, *container.argv[1:]]


def mounted(source: str, target: str, writable: bool) -> str:
    """Return a --mount word, which is read as one line of CSV."""
    fields = ["type=bind", f"source={source}", f"target={target}", f"ro={'false' if writable else 'true'}"]
    quoted = ('"' + field.replace('"', '""') + '"' if set(field) & set(',"\n') else field for field in fields)
    return ",".join(quoted)


class PodmanProcess:
    """A running `podman run`, which passes signals and the exit code on."""

    def __init__(self, container: Container) -> None:
        self.popen = start(arguments(container))

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self) -> Ending:
        code = self.popen.wait()
        if code < 0:
            return Ending(signal=-code, lost="the podman process was killed")
        if code == NOT_STARTED:
            return Ending(code=code, lost="Podman could not start the container")
        return Ending(code=code)
