"""Output as log records: one line each, with time and stream, in the format that container runtimes write.

    2026-01-31T12:00:00.123456Z stdout F a whole line, or the last piece of one
    2026-01-31T12:00:00.123456Z stderr P a piece of a line that goes on in the next record of its stream

(Kubernetes' CRI logging format.) The rest of a record is the command's bytes, whatever they are. Of a progress
bar, which draws over itself with carriage returns, only the last state before each record is kept.
"""

from __future__ import annotations

PIECE_BYTES = 64 << 10  # a longer line is cut into pieces


class Lines:
    """Cuts one stream into records. It never waits for the end of a line longer than its caller wants."""

    def __init__(self, stream: str) -> None:
        self.stream = stream.encode()
        self.rest = b""  # of the line that has not ended

    def feed(self, data: bytes, stamp: bytes) -> bytes:
        """Take what was read; return the records of the lines that it completes."""
        data = self.rest + data
        cut = data.rfind(b"\n")
        whole, self.rest = (data[:cut], data[cut + 1 :]) if cut >= 0 else (None, data)
        if b"\r" in self.rest:
            self.rest = last_state(self.rest)
        records = b"" if whole is None else self.records(whole, stamp)
        if len(self.rest) >= PIECE_BYTES:
            records += self.flush(stamp)
        return records

    def records(self, whole: bytes, stamp: bytes) -> bytes:
        if b"\r" in whole:
            whole = b"\n".join(last_state(line.rstrip(b"\r")) for line in whole.split(b"\n"))
        head = stamp + b" " + self.stream + b" F "
        return head + whole.replace(b"\n", b"\n" + head) + b"\n"

    def flush(self, stamp: bytes) -> bytes:
        """Return a record of the unfinished line, if there is one."""
        if not self.rest:
            return b""
        piece, self.rest = self.rest, b""
        return stamp + b" " + self.stream + b" P " + piece + b"\n"


def last_state(line: bytes) -> bytes:
    """Keep a line from its last carriage return on: what a terminal would show in the end."""
    bare = line.rstrip(b"\r")
    cut = bare.rfind(b"\r")
    return line if cut < 0 else line[cut:]
