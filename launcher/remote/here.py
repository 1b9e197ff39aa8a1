"""This machine as a Shell: for a person who is on the login node already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from launcher.errors import ProcessError, TargetError
from launcher.process import flow, pipe
from launcher.remote.model import Done, Stream

NOT_FOUND = 127  # as every shell says it (POSIX.1-2017, 2.8.2)


class Here:
    """A Shell that needs no way: commands are started directly."""

    where = "this machine"

    def __init__(self) -> None:
        self.trips = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Done:
        """Run a command; one that is not there ends with 127, as it would over SSH. Raises TargetError."""
        self.trips += 1
        try:
            done = pipe(argv, [stdin] if isinstance(stdin, bytes) else stdin or (), timeout_s=timeout_s)
        except ProcessError as e:
            if isinstance(e.__cause__, FileNotFoundError):
                return Done(code=NOT_FOUND, stdout=b"", stderr=f"{argv[0]}: not found\n".encode())
            raise TargetError(f"{e.problems[0].message}; nothing is known of what it did") from e
        return Done(code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    @contextmanager
    def stream(self, argv: Sequence[str], *, stdin: bytes = b"", hold: bool = False) -> Iterator[Stream]:
        """Run a command and read what it prints. Raises TargetError when it can't be started."""
        self.trips += 1
        try:
            with flow(argv, stdin=stdin, hold=hold) as running:
                yield running
        except ProcessError as e:
            raise TargetError(e.problems[0].message) from e

    @contextmanager
    def forward(self, port: int) -> Iterator[int]:
        """Give the port itself: this is the other machine, too."""
        yield port

    def close(self) -> None:
        """There is nothing to let go of."""
