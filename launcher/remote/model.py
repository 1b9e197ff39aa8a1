"""The one interface of all transports: run a command there, feed it, read what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command on another machine ended."""

    code: int
    stdout: bytes
    stderr: bytes


class Stream(Protocol):
    """What a command on another machine prints, while it runs."""

    def read(self, size: int) -> bytes:
        """Return what has come, at most `size` bytes; wait where nothing has. b"" at the end, or when the way is lost:
        `code` tells which.
        """
        ...

    def code(self) -> int:
        """Wait for the command's end and return its code. Raises TargetError, as `Shell.run`, when the way is lost."""
        ...

    def said(self) -> bytes:
        """Return what it has written to stderr so far."""
        ...


class Shell(Protocol):
    """A machine that runs commands: this one, or another over SSH. One connection, however many calls."""

    where: str  # for messages: "this machine", "login.example.org"

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Done:
        """Run a command to its end: one round trip. The words arrive there as they are, whatever they hold.

        Raises TargetError with an exit code of 69 when there is no way there (host unknown, key refused, timeout), and
        says that nothing is known of what the command did when the way was lost meanwhile.
        """
        ...

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"", hold: bool = False) -> AbstractContextManager[Stream]:
        """Run a command and read what it prints as it comes, for as long as it likes; leaving the context lets go of
        it. With `hold` its stdin stays open after `stdin` until then, so that its end tells it that nobody listens.

        Raises TargetError as `run` does.
        """
        ...

    def forward(self, port: int) -> AbstractContextManager[int]:
        """Give a port of the other machine's 127.0.0.1 that leads to our 127.0.0.1:`port` while the way lasts.

        Raises TargetError when there is no way there, or its sshd forbids it.
        """
        ...

    def close(self) -> None: ...
