"""This machine as a Shell: for a person who is on the login node already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from launcher.errors import ProcessError, TargetError
from launcher.process import pipe
from launcher.remote.model import Done

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

    def close(self) -> None:
        """There is nothing to let go of."""
