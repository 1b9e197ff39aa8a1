"""A Shell for tests that is this machine and doesn't know it: everything goes as it would to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from launcher.process import pipe
from launcher.remote.model import Done
from launcher.remote.words import command_line, without_mark


class Far:
    """Commands go through one text and a login shell, as sshd gives them. `meddle` changes what is sent."""

    where = "far"

    def __init__(self, shell: str = "sh") -> None:
        self.shell = shell
        self.trips = 0
        self.sent = 0  # bytes
        self.meddle: Callable[[Iterator[bytes]], Iterator[bytes]] = lambda chunks: chunks

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Done:
        self.trips += 1
        chunks = iter([stdin] if isinstance(stdin, bytes) else stdin or ())
        done = pipe([self.shell, "-c", os.fsdecode(command_line(argv))], self.counted(self.meddle(chunks)))
        return Done(code=done.returncode, stdout=done.stdout, stderr=without_mark(done.stderr)[0])

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.sent += len(chunk)
            yield chunk

    def close(self) -> None:
        """There is nothing to let go of."""
