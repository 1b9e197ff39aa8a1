"""What goes through a paramiko channel: a command's stdin and what it says, and connections that are led back here."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from launcher.remote.host import Host, lost_way
from launcher.remote.model import Done
from launcher.remote.words import without_mark

CHUNK_BYTES = 1 << 15  # a channel's packet


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

    def __init__(self, channel: Any, chunks: Iterable[bytes], *, hold: bool = False) -> None:
        super().__init__(daemon=True)
        self.channel, self.chunks, self.hold = channel, chunks, hold
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for piece in pieces(self.chunks):
                try:
                    self.channel.sendall(piece)
                except trouble():  # the command reads no more, or the way is lost: its code tells
                    return
            if not self.hold:
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


class FabricStream:
    """A Stream over a channel."""

    def __init__(self, host: Host, channel: Any, stdin: bytes, *, hold: bool) -> None:
        self.host, self.channel = host, channel
        self.complaints = b""
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        Feeder(channel, [stdin], hold=hold).start()

    def listen(self) -> None:
        while chunk := self.channel.recv_stderr(CHUNK_BYTES):
            self.complaints += chunk

    def read(self, size: int) -> bytes:
        with contextlib.suppress(*trouble()):
            return bytes(self.channel.recv(size))
        return b""

    def code(self) -> int:
        """Return the command's code. Raises TargetError when the way was lost before one came."""
        self.channel.status_event.wait()
        if self.channel.exit_status < 0:
            raise lost_way(self.host, "it was cut")
        self.listener.join()
        return int(self.channel.exit_status)

    def said(self) -> bytes:
        return without_mark(self.complaints)[0]


def handler(port: int) -> Callable[[Any, object, object], None]:
    """Return what takes the connections that come back through a transport, and leads them to a port of ours."""

    def lead(channel: Any, _origin: object, _server: object) -> None:
        threading.Thread(target=carry, args=(channel, port), daemon=True).start()

    return lead


def carry(channel: Any, port: int) -> None:
    """Connect a channel to a port of ours until both sides have said all."""
    with (
        contextlib.closing(channel),
        contextlib.suppress(*trouble()),
        socket.create_connection(("127.0.0.1", port)) as here,
    ):
        back = threading.Thread(target=copy, args=(here.recv, channel.sendall, channel.shutdown_write), daemon=True)
        back.start()
        copy(channel.recv, here.sendall, lambda: here.shutdown(socket.SHUT_WR))
        back.join()


def copy(receive: Callable[[int], bytes], send: Callable[[bytes], object], end: Callable[[], object]) -> None:
    with contextlib.suppress(*trouble()):
        while chunk := receive(CHUNK_BYTES):
            send(chunk)
        end()
