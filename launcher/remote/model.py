"""The one interface of all transports: run a command there, feed it, read what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command on another machine ended."""

    code: int
    stdout: bytes
    stderr: bytes


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

    def close(self) -> None: ...
