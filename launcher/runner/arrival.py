"""How far the bringing back of a checkpoint is, told on stderr when it takes longer than a few seconds."""

from __future__ import annotations

import threading
import time

from launcher.runner.freight import DRAW_EVERY_S, LINE_EVERY_S, Freight, Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Arrival(Progress):
    """Counts what arrives, from any thread; leaves the terminal clean at its end."""

    def __init__(self, name: str, files: int, n_bytes: int) -> None:
        super().__init__(Freight())
        self.name = name
        self.freight.expect(files, n_bytes)
        self.one_at_a_time = threading.Lock()

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.over()

    def moved(self, n_bytes: int) -> None:
        """Hear of bytes that have come."""
        self.freight.moved(n_bytes)
        self.tell()

    def whole(self) -> None:
        """Hear of a file that is whole."""
        self.freight.moved(files=1)

    def tell(self) -> None:
        with self.one_at_a_time:
            now = time.monotonic()
            if now >= self.next_at:
                self.next_at = now + (DRAW_EVERY_S if self.terminal else LINE_EVERY_S)
                self.write(f"launcher: restoring the checkpoint {self.name}: {self.freight.line(now)}")
