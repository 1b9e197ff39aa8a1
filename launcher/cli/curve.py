"""Draw a curve with characters: two by four dots in each (Unicode's braille patterns), or plain ones elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column, Unicode 15, chapter 21.1
BRAILLE = 0x2800


def draw(points: Sequence[Point], *, width: int = 60, height: int = 8, braille: bool = True) -> list[str]:
    """Return the lines of a drawing with its axes; `width` and `height` count characters of the plot itself.

    `points` are (x, y) by x; none gives no lines.
    """
    if not points:
        return []
    across, down = (2, 4) if braille else (1, 1)
    dots = plotted(points, width * across, height * down)
    lines = [cells(dots, row, width, braille) for row in range(height)]
    low, high = min(y for _, y in points), max(y for _, y in points)
    return framed(lines, number(low), number(high), number(points[0][0]), number(points[-1][0]), width)


def plotted(points: Sequence[Point], columns: int, rows: int) -> set[tuple[int, int]]:
    """Return the dots (column, row) of a line through the points; row 0 is the top."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    spots = [(scaled(x, xs, columns), rows - 1 - scaled(y, ys, rows)) for x, y in points]
    found = {spots[0]}
    for (x0, y0), (x1, y1) in pairwise(spots):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        found |= {(round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps)) for i in range(steps + 1)}
    return found


def scaled(value: float, values: Sequence[float], size: int) -> int:
    low, high = min(values), max(values)
    return round((value - low) / (high - low) * (size - 1)) if high > low else size // 2


def cells(dots: set[tuple[int, int]], row: int, width: int, braille: bool) -> str:
    if not braille:
        return "".join("*" if (column, row) in dots else " " for column in range(width))
    codes = (
        sum(DOTS[y][x] for y in range(len(DOTS)) for x in range(2) if (column * 2 + x, row * len(DOTS) + y) in dots)
        for column in range(width)
    )
    return "".join(chr(BRAILLE + code) if code else " " for code in codes)


def framed(lines: list[str], low: str, high: str, first: str, last: str, width: int) -> list[str]:
    """Put the range of y left of the drawing and that of x below it."""
    left = max(len(low), len(high))
    labels = [""] * len(lines)
    if low == high:  # a constant is drawn in the middle
        labels[(len(lines) - 1) // 2] = low
    else:
        labels[0], labels[-1] = high, low
    drawn = [f"{label:>{left}} | {line}".rstrip() for label, line in zip(labels, lines, strict=True)]
    return [*drawn, f"{'':{left}} +-{'-' * width}", f"{'':{left}}   {first}{last:>{max(width - len(first), 1)}}"]


def number(value: float) -> str:
    return f"{value:.4g}"
