"""A layer read once, front to back: every byte is hashed on the way, and files are taken out as they come by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from launcher.errors import IntegrityError
from launcher.image.oci import Layer
from launcher.image.tar import Hashing

PIECE = 1 << 20


class LayerReader:
    """Reads one layer. Files must be asked for in the order in which they lie.

    Use it as a context manager: leaving it reads the rest, and raises IntegrityError when the layer isn't what its
    digest says; the damaged layer is removed.
    """

    def __init__(self, layer: Layer, advance: Callable[[int], None]) -> None:
        self.layer, self.advance = layer, advance
        self.stream = layer.path.open("rb", buffering=0)
        self.hashing = Hashing()
        self.position = 0
        self.held, self.used = b"", 0  # the piece that was read last, and how much of it was given out

    def __enter__(self) -> LayerReader:
        self.hashing.__enter__()
        return self

    def pieces(self, size: int, step: int = PIECE) -> Iterator[bytes]:
        """Yield the next `size` bytes in pieces of `step`, the last one shorter."""
        while size > 0:
            data = self.exactly(min(size, step))
            size -= len(data)
            yield data

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises IntegrityError when the layer ends before."""
        data = self.held[self.used : self.used + size]
        self.used += len(data)
        while len(data) < size:
            self.read_on()
            self.used = min(size - len(data), len(self.held))
            data += self.held[: self.used]
        self.position += size
        return data

    def read_on(self) -> None:
        self.held, self.used = self.stream.read(PIECE), 0
        if not self.held:
            raise self.damaged()
        self.hashing.put(self.held)
        self.advance(len(self.held))

    def skip_to(self, offset: int) -> None:
        for _ in self.pieces(offset - self.position):
            pass

    def damaged(self) -> IntegrityError:
        self.layer.path.unlink(missing_ok=True)
        return IntegrityError(
            f"the layer {self.layer.name} was damaged in the cache after it was made",
            hint="it was removed; the same command again makes it anew",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.skip_to(self.layer.size)
        finally:
            self.hashing.__exit__()
            self.stream.close()
        if error is None and self.hashing.digest.hexdigest() != self.layer.diff_id:
            raise self.damaged()
