"""Fabric (paramiko) as a Shell: for machines without OpenSSH's client. A connection lasts as long as this process.

Two of Fabric's defaults are turned round: a host whose key is not known is refused, and no environment is put in front
of commands. ~/.ssh/config, known_hosts, the agent and keys are used as Fabric reads them; what a site asks for besides
a key is asked at the terminal. Source: Fabric 3.2's and paramiko 4's documentation, RFC 4252 and RFC 4256.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from launcher.errors import TargetError
from launcher.remote.fabric_flow import FabricStream, UnfedError, handler, talk, trouble
from launcher.remote.fabric_login import strategy
from launcher.remote.host import Host, called, config_file, files_in, forbidden, lost_way, no_way, parse
from launcher.remote.model import Done, Stream
from launcher.remote.words import command_line, without_mark

CONNECT_S, ALIVE_S = 30, 15
LOST_MS = 60_000  # unanswered for so long, a connection is given up (tcp(7), TCP_USER_TIMEOUT)
KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"  # ssh_config(5), UserKnownHostsFile
SITE_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"


class Fabric:
    """A Shell over Fabric. `trips` counts the commands that went over the connection."""

    def __init__(self, host: str) -> None:
        self.host: Host = parse(host)
        self.where = self.host.name
        self.trips = 0

    @cached_property
    def connection(self) -> Any:
        """The connection, not yet open. Raises TargetError when Fabric or a setting can't be used."""
        import paramiko
        from fabric import Config, Connection

        settings = {"inline_ssh_env": False, "authentication": {"strategy_class": strategy()}}
        config = Config(overrides=settings, runtime_ssh_path=config_file())
        found = Connection(self.host.name, user=self.host.user, port=self.host.port, config=config)
        found.connect_timeout = found.connect_timeout or CONNECT_S
        for one in hops(found):
            one.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            for path in known_hosts(one.ssh_config):
                with contextlib.suppress(OSError):
                    one.client.load_system_host_keys(str(path))
        return found

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Done:
        """Run a command there: one round trip, besides the opening of the connection. Raises TargetError."""
        line = command_line(argv)
        self.connect()
        self.trips += 1
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            with contextlib.closing(self.connection.create_session()) as channel:
                channel.exec_command(line)
                done = talk(channel, [stdin] if isinstance(stdin, bytes) else stdin or (), deadline)
        except UnfedError as e:
            raise e.__cause__ or e from None
        except trouble() as e:
            raise lost_way(self.host, str(e) or type(e).__name__) from e
        if done is None:
            raise lost_way(self.host, f"no end within {timeout_s:g} s" if timeout_s else "it was cut")
        said, _ = without_mark(done.stderr)
        return Done(code=done.code, stdout=done.stdout, stderr=said)

    @contextlib.contextmanager
    def stream(self, argv: Sequence[str], *, stdin: bytes = b"", hold: bool = False) -> Iterator[Stream]:
        """Run a command there and read what it prints as it comes. Raises TargetError."""
        line = command_line(argv)
        self.connect()
        self.trips += 1
        try:
            channel = self.connection.create_session()
            channel.exec_command(line)
        except trouble() as e:
            raise lost_way(self.host, str(e) or type(e).__name__) from e
        with contextlib.closing(channel):
            yield FabricStream(self.host, channel, stdin, hold=hold)

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        """Have sshd listen there, and lead who comes to our port. Raises TargetError."""
        self.connect()
        transport = self.connection.transport
        try:
            theirs = transport.request_port_forward("127.0.0.1", 0, handler(port))
        except trouble() as e:
            raise forbidden(self.host, str(e) or type(e).__name__) from e
        try:
            yield int(theirs)
        finally:
            with contextlib.suppress(*trouble()):
                transport.cancel_port_forward("127.0.0.1", theirs)

    def connect(self) -> None:
        """Open the connection, unless it is open. Raises TargetError with what to do."""
        try:
            if self.connection.is_connected:
                return
            self.connection.open()
            self.connection.transport.set_keepalive(ALIVE_S)
            with contextlib.suppress(OSError, AttributeError):
                self.connection.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_MS)
        except TargetError:
            raise
        except trouble() as e:
            known = called(self.connection.host, self.connection.port)
            raise no_way(self.host, str(e) or type(e).__name__, known) from e

    def close(self) -> None:
        self.connection.close()


def hops(connection: Any) -> Iterator[Any]:
    """Yield a connection and those that it goes through (ProxyJump): none of them takes a key that it doesn't know."""
    while connection is not None and not isinstance(connection, str):  # a text is a ProxyCommand
        yield connection
        connection = connection.gateway


def known_hosts(ssh_config: Any) -> list[Path]:
    """Return the files that tell which key a host has, a person's own first."""
    own = ssh_config.get("userknownhostsfile", KNOWN_HOSTS)
    site = ssh_config.get("globalknownhostsfile", SITE_KNOWN_HOSTS)
    return [*files_in(own), *files_in(site)]
