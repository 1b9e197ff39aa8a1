"""How records look to a person: states, ages, sizes, and tables that are aligned text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
STATE_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "queued": "blue",
    "failed": "red",
    "killed": "magenta",
    "refused": "yellow",
}
MAY_BE_CUT = 2  # the last columns of a table, where a terminal is narrow; an id that gets copied must be whole
UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def store_option(command: Command) -> Command:
    """Add `--store` to a command; the function gets `store: str | None`."""
    text = "A folder or file:// URL; else LAUNCHER_STORE, else the machine's default."
    return click.option("--store", metavar="URL", help=text)(command)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], states: int | None = None) -> None:
    """Print a table; on a terminal the column number `states` is coloured. What a cell holds stays on one line."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print_plain([heads, *rows])
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, head in enumerate(heads):
        widest = max(map(len, [head, *column(rows, at)]))
        table.add_column(head, no_wrap=True, min_width=widest if at < len(heads) - MAY_BE_CUT else None)
    for row in rows:
        cells = [
            Text(cell, style=STATE_STYLES.get(cell.split()[0] if cell else "", "") if at == states else "")
            for at, cell in enumerate(row)
        ]
        table.add_row(*cells)
    Console().print(table)


def column(rows: Sequence[Sequence[str]], at: int) -> list[str]:
    return [row[at] for row in rows]


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    from launcher.cli.output import print_text

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def one_line(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def age(stamp: str | None, now: datetime | None = None) -> str:
    """Say how long ago a time was, in its largest unit."""
    if not stamp:
        return "-"
    then = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return duration(max(0.0, ((now or datetime.now(timezone.utc)) - then).total_seconds())) + " ago"


def duration(seconds: float | None) -> str:
    """Say a time span in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def size(count: int | None) -> str:
    """Say a number of bytes, in powers of 1000."""
    value = float(count or 0)
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def number(value: object) -> str:
    """Say a metric in at most six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
