"""What the commands on an attempt's other nodes print: left in the shared folder by each, taken into the log by the
leader.

    others/<attempt>.<rank>     log records, appended as they come

Best effort: a shared folder may show new bytes late, or be full, and each node's own output goes to its stdout as well.
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.runner.attempt import Attempt
    from launcher.runner.spool import Spool

FOLDER = "others"
MOST_BYTES = 256 << 20  # of each node: what is more is only on its stdout
READ_BYTES = 1 << 20


class Left:
    """A follower's end. It stands in the spool's place."""

    size, age_s = 0, 60.0

    def __init__(self, attempt: Attempt) -> None:
        self.path = attempt.path(FOLDER, f"{attempt.number}.{attempt.environment.get('NODE_RANK', '1')}")
        self.room = MOST_BYTES

    def add(self, records: bytes, now: float) -> None:
        """Append whole records, in one write."""
        self.room -= len(records)
        if not records or self.room < 0:
            return
        with contextlib.suppress(OSError):
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                os.write(file, records)
            finally:
                os.close(file)

    def tick(self, now: float) -> None:
        return


class Gathering:
    """The leader's spool, with what the others have left: looked for whenever the spool's chunk may be old enough."""

    size = 1  # so that the loop comes by also when this node's command says nothing

    def __init__(self, spool: Spool, attempt: Attempt) -> None:
        self.spool, self.age_s, self.looked = spool, spool.age_s, 0.0
        self.folder, self.number = attempt.path(FOLDER), attempt.number
        self.done: dict[str, int] = {}  # how much of each file has been taken

    def add(self, records: bytes, now: float) -> None:
        self.spool.add(records, now)

    def tick(self, now: float) -> None:
        if now - self.looked >= self.age_s / 2:
            self.looked = now
            self.look(now)
        self.spool.tick(now)

    def look(self, now: float) -> None:
        """Take what is new."""
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.folder)):
                number, _, rank = name.partition(".")
                if number == str(self.number):
                    while records := self.new(name):
                        self.spool.add(marked(records, rank), now)

    def new(self, name: str) -> bytes:
        """Return further whole records of a file, a part at a time."""
        with open(os.path.join(self.folder, name), "rb") as stream:
            stream.seek(self.done.get(name, 0))
            data = stream.read(READ_BYTES)
        data = data[: data.rfind(b"\n") + 1]
        self.done[name] = self.done.get(name, 0) + len(data)
        return data


def marked(records: bytes, rank: str) -> bytes:
    """Say in each record which node's it is. A piece of a line stands for itself: other nodes' come between."""
    mark = f"[node {rank}] ".encode()
    found = (line.split(b" ", 3) for line in records.splitlines(keepends=True))
    return b"".join(b" ".join([*parts[:2], b"F", mark + parts[3]]) for parts in found if len(parts) == 4)
