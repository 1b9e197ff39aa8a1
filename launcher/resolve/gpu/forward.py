"""A stream of pieces that is read by position and only ever forward, so that a gigabyte costs a few megabytes."""

from __future__ import annotations

from collections.abc import Iterable


class Forward:
    """Bytes that come in pieces. What lies before the last position asked for is forgotten with the next piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)
        self.data = b""
        self.start = 0  # position of data[0]
        self.needed = 0  # positions before this one are never asked for again

    def pull(self) -> bool:
        """Take the next piece in; False at the end."""
        piece = next(self.pieces, None)
        if piece is None:
            return False
        cut = min(self.needed - self.start, len(self.data))
        self.data = self.data[cut:] + piece if cut < len(self.data) else piece
        self.start += cut
        return True

    def read(self, position: int, size: int) -> bytes:
        """Return what is at a position; fewer bytes than asked for at the end of the stream."""
        self.needed = max(self.needed, position)
        while self.start + len(self.data) < position + size and self.pull():
            pass
        index = position - self.start
        return self.data[index : index + size]

    def find(self, needle: bytes, position: int, end: int) -> int | None:
        """Return where a needle begins from a position on and before `end`, or None."""
        self.read(position, len(needle))
        while self.needed < end:
            at = self.data.find(needle, self.needed - self.start)
            if at >= 0:
                return self.start + at if self.start + at < end else None
            self.needed = min(max(self.needed, self.start + len(self.data) - len(needle) + 1), end)
            if self.needed < end and not self.pull():
                return None
        return None

    def drain(self) -> None:
        """Read to the end, so that the source checks its checksum."""
        for _ in self.pieces:
            pass
