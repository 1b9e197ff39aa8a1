"""How long work tells of its progress: a small seam, silent unless the command line plugs something in."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Task(Protocol):
    """One bar. Use it as a context manager."""

    def advance(self, amount: int = 1) -> None: ...
    def __enter__(self) -> Task: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Makes tasks. `unit` is "bytes" or a plural noun."""

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task: ...
    def note(self, text: str) -> None: ...


class SilentTask:
    def advance(self, amount: int = 1) -> None:
        return

    def __enter__(self) -> SilentTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Silent:
    """The default: says nothing."""

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task:
        return SilentTask()

    def note(self, text: str) -> None:
        return


SILENT: Progress = Silent()
