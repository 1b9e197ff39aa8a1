"""A real sshd on this machine's loopback, with a host key, a user key and a configuration of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
"""
CLIENT = """Host box
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {home}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {home}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
"""


class Sshd:
    """A server, and the client's files that reach it by the name `box`."""

    def __init__(self, home: Path, more: str = "") -> None:
        self.home = home
        self.port = free_port()
        keygen(home / "host_key")
        keygen(home / "user_key")
        shutil.copy(home / "user_key.pub", home / "authorized_keys")
        key = (home / "host_key.pub").read_text()
        (home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")
        (home / "sshd_config").write_text(SERVER.format(port=self.port, home=home) + more)
        self.config = home / "ssh_config"
        self.config.write_text(CLIENT.format(port=self.port, home=home, user=getpass.getuser()))

    def start(self) -> None:
        """Start it, and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "openssh-server is missing"
        args = [program, "-D", "-f", str(self.home / "sshd_config"), "-E", str(self.log)]
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL)
        for _ in range(200):
            if "Server listening" in self.said():
                return
            time.sleep(0.05)
        raise AssertionError(self.said())

    @property
    def log(self) -> Path:
        return self.home / "sshd.log"

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def sessions(self) -> int:
        """Count the commands that were run: each is a channel of its own."""
        return self.said().count("Starting session: command")

    def connections(self) -> int:
        return self.said().count("Accepted publickey")

    def cut(self) -> None:
        """Kill the server's side of all connections, as a dead network would end them."""
        for pid in descendants(self.process.pid):
            if (Path("/proc") / str(pid) / "comm").read_text().startswith("sshd"):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs (proc(5), task/<tid>/children)."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    children = [int(word) for word in text.split()]
    return [*children, *(below for child in children for below in descendants(child))]


def keygen(path: Path, passphrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(home: Path, more: str = "") -> Iterator[Sshd]:
    """Give a server; `more` are further lines of its sshd_config."""
    home.mkdir(mode=0o700, exist_ok=True)
    server = Sshd(home, more)
    server.start()
    try:
        yield server
    finally:
        server.stop()
