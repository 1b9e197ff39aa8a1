"""How records look to a person: states, ages, sizes, and tables that are aligned text in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
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
UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def store_option(command: Command) -> Command:
    """Add `--store` to a command; the function gets `store: str | None`."""
    text = "A folder, or a file://, s3://, gs:// or az:// URL; else LAUNCHER_STORE, else the machine's default."
    return click.option("--store", metavar="URL", help=text)(command)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], states: int | None = None) -> None:
    """Print a table; on a terminal the column number `states` is coloured, and lines end where it ends.

    What a cell holds stays on one line.
    """
    rows = [on_one_line(row) for row in [heads, *rows]]
    if not sys.stdout.isatty():
        print_plain(rows)
        return
    from launcher.cli.output import print_text

    widths = widths_of(rows)
    across = shutil.get_terminal_size().columns
    for number, (row, line) in enumerate(zip(rows, aligned(rows, widths), strict=True)):
        line = cut(line, across)
        print_text(bold(line) if number == 0 else coloured(line, row, widths, states))


def coloured(line: str, row: Sequence[str], widths: Sequence[int], states: int | None) -> str:
    """Return a line of a table with its state in colour, if that is not cut off."""
    style = STATE_STYLES.get(row[states].split()[0]) if states is not None and row[states] else None
    if style is None or states is None or is_plain():
        return line
    head = "  ".join([*(padded(cell, width) for cell, width in zip(row[:states], widths, strict=False)), ""])
    end = len(head) + len(row[states])
    return head + click.style(line[len(head) : end], fg=style) + line[end:] if line.startswith(head) else line


def bold(line: str) -> str:
    return line if is_plain() else click.style(line, bold=True)


def is_plain() -> bool:
    """Tell whether colours are off: NO_COLOR (no-color.org), TERM=dumb."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def padded(cell: str, width: int) -> str:
    return cell + " " * (width - cells(cell))


def cut(line: str, across: int) -> str:
    """Return the beginning of a line that fits into so many columns, with an ellipsis where something is left out."""
    if cells(line) <= across:
        return line
    while line and cells(line) > across - 1:
        line = line[: min(len(line) - 1, across)]
    return line + "…"


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    from launcher.cli.output import print_text

    print_text("\n".join(aligned(rows, widths_of(rows))))


def widths_of(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how many columns of a terminal each column of a table takes; ten thousand rows take a moment."""
    columns = list(zip(*rows, strict=True))
    return [max(map(len if "".join(column).isascii() else cells, column)) for column in columns]


def aligned(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Return the lines of a table."""
    form = "  ".join(f"{{:<{width}}}" if width else "{}" for width in widths).format
    return [(form(*row) if "".join(row).isascii() else "  ".join(map(padded, row, widths))).rstrip() for row in rows]


def on_one_line(row: Sequence[str]) -> Sequence[str]:
    return row if "".join(row).isprintable() else [one_line(cell) for cell in row]


def one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def age(stamp: str | None, now: float | None = None) -> str:
    """Say how long ago a time (RFC 3339, UTC) was, in its largest units; `now` is in Unix time."""
    if not stamp:
        return "-"
    from launcher.runner.fold import seconds

    return duration(max(0.0, (time.time() if now is None else now) - seconds(stamp))) + " ago"


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
