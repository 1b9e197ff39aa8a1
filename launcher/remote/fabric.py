"""Fabric (paramiko) as a Shell: for machines without OpenSSH's client. A connection lasts as long as this process.

Two of Fabric's defaults are turned round: a host whose key is not known is refused, and no environment is put in front
of commands. ~/.ssh/config, known_hosts, the agent and keys are used as Fabric reads them; what a site asks for besides
a key is asked at the terminal. Source: Fabric 3.2's and paramiko 4's documentation, RFC 4252 and RFC 4256.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from launcher.errors import TargetError
from launcher.remote.fabric_login import strategy
from launcher.remote.host import Host, config_file, lost_way, no_way, parse
from launcher.remote.model import Done
from launcher.remote.words import command_line, without_mark

CONNECT_S, ALIVE_S = 30, 15
LOST_MS = 60_000  # unanswered for so long, a connection is given up (tcp(7), TCP_USER_TIMEOUT)
CHUNK_BYTES = 1 << 15  # a channel's packet
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
            raise no_way(self.host, str(e) or type(e).__name__) from e

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
    return [Path(word).expanduser() for text in (own, site) for word in text.split() if word != "none"]


def trouble() -> tuple[type[Exception], ...]:
    """The errors that speak of the way. paramiko is imported when it is first needed."""
    from paramiko import SSHException

    found: type[Exception] = SSHException
    return (found, OSError, EOFError, ValueError)


class UnfedError(Exception):
    """What was to be sent could not be had; its cause tells why."""


def talk(channel: Any, chunks: Iterable[bytes], deadline: float | None) -> Done | None:
    """Feed a command and read what it says until it ends; None when the way was lost or time is up.

    Raises UnfedError, with its cause, when `chunks` raise.
    """
    feeder = Feeder(channel, chunks)
    texts: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda: texts.update(out=drained(channel.recv)), daemon=True),
        threading.Thread(target=lambda: texts.update(err=drained(channel.recv_stderr)), daemon=True),
    ]
    for thread in (feeder, *readers):
        thread.start()
    ended = all(joined(thread, deadline) for thread in readers) and channel.status_event.wait(left(deadline))
    if not ended or channel.exit_status < 0:
        channel.close()  # which lets go of whoever still writes
        if not ended or feeder.error is None:
            return None
    feeder.join(left(deadline))
    if feeder.error:
        raise UnfedError from feeder.error
    return Done(code=channel.exit_status, stdout=texts["out"], stderr=texts["err"])


def left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def joined(thread: threading.Thread, deadline: float | None) -> bool:
    thread.join(left(deadline))
    return not thread.is_alive()


def drained(receive: Callable[[int], bytes]) -> bytes:
    return b"".join(iter(lambda: receive(CHUNK_BYTES), b""))


class Feeder(threading.Thread):
    """Writes to a command's stdin while others read what it says."""

    def __init__(self, channel: Any, chunks: Iterable[bytes]) -> None:
        super().__init__(daemon=True)
        self.channel, self.chunks = channel, chunks
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for piece in pieces(self.chunks):
                try:
                    self.channel.sendall(piece)
                except trouble():  # the command reads no more, or the way is lost: its code tells
                    return
            with contextlib.suppress(*trouble()):
                self.channel.shutdown_write()
        except BaseException as e:
            self.error = e
            self.channel.close()


def pieces(chunks: Iterable[bytes]) -> Iterator[memoryview]:
    """Cut chunks into what a channel takes at once."""
    for chunk in chunks:
        view = memoryview(chunk)
        for at in range(0, len(view), CHUNK_BYTES):
            yield view[at : at + CHUNK_BYTES]
