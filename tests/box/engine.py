"""The Docker engine of a box: its own data on a real file system, its own bridge and firewall."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from tests.box import machine
from tests.box.model import Parts
from tests.box.processes import BoxError, call, end, living, recorded, waited
from tests.box.processes import identity as who

NAME = "dockerd"
PATIENCE_S = 240


class Engine:
    """As `dockerd` of a distribution: /var/run/docker.sock, /var/lib/docker, group `docker`."""

    def __init__(self, box: Parts) -> None:
        self.box = box

    def start(self, *options: str) -> None:
        """Start it, unless it runs, and wait until it answers. Raises BoxError."""
        if not self.box.docker:
            raise BoxError(f"{self.box.name} has no engine")
        forget_pid(self.box)
        machine.serve(self.box, NAME, ["dockerd", *options])
        if not waited(lambda: self.is_over or self.answers, PATIENCE_S, every_s=0.05) or self.is_over:
            raise BoxError(f"the engine of {self.box.name} does not answer: {self.said[-2500:]}")

    @property
    def is_over(self) -> bool:
        return recorded(self.box.record(NAME)) is None

    @property
    def answers(self) -> bool:
        """Ask by the socket's file, which this machine sees too."""
        with socket.socket(socket.AF_UNIX) as asked:
            try:
                asked.settimeout(10)
                asked.connect(str(self.box.root / "run" / "docker.sock"))
                asked.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in asked.recv(64)
            except OSError:
                return False

    @property
    def said(self) -> str:
        return self.box.log(NAME).read_text(errors="replace")

    @property
    def url(self) -> str:
        """For $DOCKER_HOST of this machine's own client."""
        return f"unix://{self.box.root}/run/docker.sock"

    def docker(self, *words: str) -> str:
        """Run the `docker` command on the box; return what it printed."""
        done = machine.execute(self.box, ["docker", *words])
        if done.returncode:
            raise BoxError(f"docker {' '.join(words)}: {done.stderr.decode()[-2000:]}")
        return done.stdout.decode()

    def stop(self) -> None:
        """Stop it as an administrator does: it stops its containers first."""
        if (pid := machine.serving(self.box, NAME)) is not None:
            end([pid], patience_s=60)
        waited(lambda: self.is_over, 20)

    def kill(self) -> None:
        """End it by SIGKILL, with what starts its containers; these run on until it starts again."""
        pids = [*machine.processes(self.box, NAME), *machine.processes(self.box, "containerd")]
        whos = [who(pid) for pid in pids]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # one takes the other along
                os.kill(pid, signal.SIGKILL)
        waited(lambda: not any(map(living, whos)) and self.is_over, 20)

    def restart(self) -> None:
        self.stop()
        self.start()


def forget_pid(box: Parts) -> None:
    """Take away the note of an engine that was killed: another process may have its number by now."""
    note = box.root / "run" / "docker.pid"
    if note.exists() and not machine.processes(box, NAME):
        note.unlink()


def forget_network(box: Parts) -> None:
    """Remove what an engine has made of the network, which no machine keeps when it boots."""
    call("ip", "-n", box.space, "link", "del", "docker0", check=False)
