"""Progress on a terminal: bars on stderr by rich. In a pipe only notes are printed, as plain lines."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from launcher.cli.settings import settings
from launcher.progress import SILENT, Progress, SilentTask, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


def choose_progress() -> Progress:
    """Return the progress that fits: nothing with --quiet, bars on a terminal, else lines."""
    if settings().quiet:
        return SILENT
    return RichProgress() if sys.stderr.isatty() else LineProgress()


class LineProgress:
    """No bars; notes are lines on stderr."""

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task:
        return SilentTask()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class RichProgress:
    """Bars of all open tasks, drawn while at least one is open. Threads may share it."""

    def __init__(self, console: Any = None) -> None:
        self.console = console  # a rich.console.Console; stderr's own when left out
        self.bars: Bars | None = None
        self.open = 0
        self.lock = threading.Lock()

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task:
        with self.lock:
            if self.bars is None:
                self.bars = make_bars(self.console)
                self.bars.start()
            self.open += 1
            return RichTask(self, self.bars, self.bars.add_task(label, total=total, unit=unit))

    def close_task(self, bars: Bars, task: TaskID) -> None:
        """Take a bar away; with the last one, give the terminal back."""
        with self.lock:
            bars.remove_task(task)
            self.open -= 1
            if self.open == 0:
                bars.stop()
                self.bars = None

    def note(self, text: str) -> None:
        with self.lock:
            if self.bars is None:
                print(text, file=sys.stderr, flush=True)
            else:
                self.bars.console.print(text, markup=False, highlight=False)


class RichTask:
    """One bar."""

    def __init__(self, owner: RichProgress, bars: Bars, task: TaskID) -> None:
        self.owner, self.bars, self.id = owner, bars, task
        self.closed = False

    def advance(self, amount: int = 1) -> None:
        self.bars.advance(self.id, amount)

    def __enter__(self) -> RichTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.closed:
            self.closed = True
            self.owner.close_task(self.bars, self.id)


def make_bars(console: Any) -> Bars:
    """Return rich's display. It is transient: what stays on the terminal is what verbs print."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.progress import Task as Row
    from rich.text import Text

    class AmountColumn(ProgressColumn):
        def render(self, task: Row) -> Text:
            return Text(amount(task.completed, task.total, task.fields["unit"]) + speed(task))

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), AmountColumn())
    return Progress(*columns, console=console or Console(stderr=True), transient=True)


def speed(task: Any) -> str:
    """Say how fast bytes come, once that is known."""
    return f", {task.speed / 1e6:.1f} MB/s" if task.fields["unit"] == "bytes" and task.speed else ""


def amount(done: float, total: float | None, unit: str) -> str:
    """Say how far a task is, in its unit."""
    if unit != "bytes":
        return f"{done:.0f} {unit}" if total is None else f"{done:.0f}/{total:.0f} {unit}"
    return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
