"""Boxes to ssh into for the tests: each has its own address, disk, users, processes, sshd and Docker engine.

`boxes.new()` gives one that runs until the session ends; several stand beside each other on one switch. They reach
the machine of the tests at `box.site.host_address`, and nothing else. `python -m tests.boxes` starts one by hand.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.box import disk, gpus, machine, network
from tests.box.engine import Engine, forget_network
from tests.box.model import USERS, Parts, Site
from tests.box.processes import BoxError, recorded, waited
from tests.box.sites import chosen, down

NEEDS = ("sshd", "ip", "tini", "nsenter", "unshare")
H100 = "NVIDIA H100 80GB HBM3"
HOST = """Host {alias}
    HostName {address}
    Port {port}
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known}
    GlobalKnownHostsFile none
"""


class Box:
    """A rented machine, as its renter and as its owner see it."""

    port = 22
    user = "root"

    def __init__(self, parts: Parts) -> None:
        self.parts, self.name, self.site = parts, parts.name, parts.site
        self.host, self.root, self.disk = parts.address, parts.root, parts.disk
        self.key = parts.home / "secrets" / "user"
        self.engine = Engine(parts)
        self.outages = 0

    @property
    def client_address(self) -> str:
        """The address under which the box reaches what the tests serve."""
        return self.site.host_address

    @property
    def ssh_config(self) -> Path:
        """For $LAUNCHER_SSH_CONFIG: has the box by its name, as NAME-ada and NAME-dora, and its neighbours."""
        return self.site.home / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.site.home / "known_hosts"

    @property
    def host_key(self) -> str:
        """The public half, such as "ssh-ed25519 AAAA..."."""
        return " ".join((self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])

    def ssh(self, *words: str, user: str = "root") -> list[str]:
        """Return the arguments that run a command there by the system's own ssh."""
        alias = self.name if user == "root" else f"{self.name}-{user}"
        return ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", alias, *words]

    def exec(
        self, argv: Sequence[str], *, user: str = "root", stdin: bytes = b"", env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        """Run a program there to its end, from behind: no ssh, no network."""
        done = machine.execute(self.parts, argv, user=user, stdin=stdin, env=env)
        said = f"{done.stdout[-2000:].decode(errors='replace')}{done.stderr[-2000:].decode(errors='replace')}"
        assert not check or done.returncode == 0, f"{self.name}: {list(argv)}: code {done.returncode}\n{said}"
        return done

    def processes(self, name: str | None = None) -> list[int]:
        """Return the ids of what runs there, as this machine counts; `name` as in proc(5), comm."""
        return machine.processes(self.parts, name)

    def cut(self) -> None:
        """Pull its cable: nothing arrives, and nobody is told."""
        network.cut(self.parts)

    def join(self) -> None:
        network.join(self.parts)

    def drop(self, seconds: float) -> None:
        """Cut it off for so long; its connections are gone afterwards, as where a router forgot them."""
        self.cut()
        self.kill_sessions()
        time.sleep(seconds)
        self.join()

    def kill_sessions(self) -> None:
        """End all connections of sshd, which goes on listening; what runs in a session of its own runs on."""
        listening = machine.serving(self.parts, "sshd")
        for pid in self.processes("sshd"):
            with contextlib.suppress(ProcessLookupError):
                if pid != listening:
                    os.kill(pid, signal.SIGKILL)

    def line(self, delay_ms: float = 0, rate_mbit: float | None = None) -> None:
        """Let packets between client and box take so long each way, at that rate; nothing said gives the cable back.
        Set it before connections are made."""
        network.line(self.parts, delay_ms, rate_mbit)

    def bytes(self) -> tuple[int, int]:
        """Return how many bytes the box has received and sent so far, with the headers of the network."""
        return network.counted(self.parts)

    def configure_sshd(self, *lines: str) -> None:
        """Let sshd have further lines of sshd_config(5), such as "AllowTcpForwarding no"; and no others."""
        disk.write_sshd(self.parts, lines)
        self.restart_sshd()

    def restart_sshd(self) -> None:
        """End all its connections, and start it anew; what runs in a session of its own runs on."""
        self.stop_sshd()
        self.start_sshd()

    def stop_sshd(self) -> None:
        for pid in self.processes("sshd"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        waited(lambda: recorded(self.parts.record("sshd")) is None, 20)

    def start_sshd(self) -> None:
        begun = self.log("sshd").count("Server listening")
        machine.serve(self.parts, "sshd", ["/usr/sbin/sshd", "-D", "-e"])
        if not waited(lambda: self.log("sshd").count("Server listening") > begun, 30):
            raise BoxError(f"sshd of {self.name}: {self.log('sshd')[-2000:]}")

    def log(self, what: str) -> str:
        """Return what `sshd`, `dockerd`, `cron` or `boot` said."""
        path = self.parts.log(what)
        return path.read_text(errors="replace") if path.exists() else ""

    def off(self) -> None:
        """Take its power away; its disk stays."""
        machine.off(self.parts)

    def on(self) -> None:
        """Switch it on: an empty /tmp and /run, then sshd, the engine and cron, as a distribution starts them."""
        forget_network(self.parts)
        machine.up(self.parts)
        self.start_sshd()
        if self.parts.docker:
            self.engine.start()
        if self.parts.cron:
            machine.serve(self.parts, "cron", ["cron", "-f"])

    def reboot(self) -> None:
        self.off()
        self.on()

    def fake_gpus(
        self, count: int, driver: str = "550.54.15", capability: str | None = "9.0", model: str = H100,
        memory_mb: int = 81559, toolkit: bool = True, proc_tree: bool = False,
    ) -> None:  # fmt: skip
        """Show GPUs from now on (the box is booted again). `proc_tree` gives it /proc/driver/nvidia too; then nobody
        may mount a /proc of his own in a user namespace there (mount_namespaces(7))."""
        more: dict[str, Any] = {"memory_mb": memory_mb, "toolkit": toolkit, "tree": proc_tree}
        gpus.put(self.parts, count, driver=driver, capability=capability, model=model, **more)
        self.reboot()

    def gpu(self, index: int) -> str:
        """Return the UUID of a fake GPU."""
        return gpus.uuid(self.parts, index)


class Boxes:
    """Makes boxes on one switch."""

    def __init__(self, site: Site) -> None:
        self.site, self.made = site, list[Box]()
        self.numbers = itertools.count(1)
        for name in ("ssh_config", "known_hosts"):
            (site.home / name).touch()

    def new(
        self, name: str | None = None, *, docker: bool = True, podman: bool = False, cron: bool = False,
        disk_mb: int | None = None, program: Path | None = None, sshd: Sequence[str] = (),
    ) -> Box:  # fmt: skip
        """Give a box that runs. `docker=False`: without an engine, and without its programs; `podman`: with Podman's;
        `disk_mb`: a small disk; `program`: PREFIX/bin/NAME, which it has too; `sshd`: more lines of sshd_config(5)."""
        k = next(self.numbers)
        more: dict[str, Any] = {"disk_mb": disk_mb, "podman": podman, "program": program, "sshd": tuple(sshd)}
        parts = Parts(site=self.site, k=k, name=name or f"box{k}", docker=docker, cron=cron, **more)
        disk.make(parts)
        network.plug(parts)
        box = Box(parts)
        self.made.append(box)
        self.tell(box)
        box.on()
        return box

    def tell(self, box: Box) -> None:
        """Write what a client knows of it."""
        disk.append(box.known_hosts, f"{box.host} {box.host_key}\n")
        same = {"address": box.host, "port": box.port, "key": box.key, "known": box.known_hosts}
        names = {box.name: "root", **{f"{box.name}-{user}": user for user in USERS}}
        texts = [HOST.format(alias=alias, user=user, **same) for alias, user in names.items()]
        disk.append(box.ssh_config, "".join(texts))


def missing(*more: str) -> str | None:
    """Return why no box can be made here."""
    if os.getuid() != 0:
        return "a box needs root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    gone = [name for name in (*NEEDS, *more) if not shutil.which(name, path=path)]
    return f"a box needs {', '.join(gone)} (see .ci/debian-packages)" if gone else None


@contextlib.contextmanager
def started() -> Iterator[Boxes]:
    """Give boxes until the end of the block."""
    if (why := missing("dockerd", "cron")) is not None:
        pytest.skip(why)
    site = chosen()
    try:
        network.up(site)
        yield Boxes(site)
    finally:
        down(site)


@pytest.fixture(scope="session")
def boxes() -> Iterator[Boxes]:
    """Make boxes: each costs some seconds, and runs until the session ends."""
    with started() as made:
        yield made


def main(words: Sequence[str]) -> None:
    """Start a box, and end it when its standard input ends."""
    with started() as made:
        box = made.new(docker="--no-docker" not in words, cron="--cron" in words)
        sys.stdout.write(f"{' '.join(box.ssh())}\nexport LAUNCHER_SSH_CONFIG={box.ssh_config}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
