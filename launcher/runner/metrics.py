"""Metrics: JSON lines that the command appends to a file, followed as it grows and summed up by name."""

from __future__ import annotations

import json
import math
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_DIGITS = 400
READ_BYTES = 1 << 20  # at most so much at once, and for one line


class Tail:
    """Follows a file that somebody else appends to. Half a line waits until it is whole."""

    def __init__(self, path: str) -> None:
        self.path, self.offset, self.rest, self.inode = path, 0, b"", -1

    def lines(self, final: bool = False) -> list[bytes]:
        """Return the new whole lines; at the end also a last one without a line feed."""
        data = self.rest + self.read()
        cut = data.rfind(b"\n") + 1
        if final or len(data) - cut > READ_BYTES:
            cut = len(data)
        self.rest = data[cut:]
        return [line for line in data[:cut].split(b"\n") if line.strip()]

    def read(self) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as stream:
                now = os.fstat(stream.fileno())
                if now.st_ino != self.inode or now.st_size < self.offset:  # a new file, or begun again
                    self.inode, self.offset, self.rest = now.st_ino, 0, b""
                stream.seek(self.offset)
                data = stream.read(READ_BYTES)
        except OSError:
            return b""
        self.offset += len(data)
        return data


def parse(line: bytes) -> dict[str, Any] | None:
    """Return a metrics line, or None when it is no JSON object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Summary:
    """The last, the smallest and the largest value of each name, with their steps."""

    def __init__(self, names: dict[str, dict[str, Any]] | None = None, rows: int = 0, bad: int = 0) -> None:
        self.names: dict[str, dict[str, Any]] = names or {}
        self.rows, self.bad = rows, bad

    def add_lines(self, lines: list[bytes]) -> list[bytes]:
        """Take raw lines; return the good ones and count the others."""
        good = []
        for line in lines:
            row = parse(line)
            if row is None:
                self.bad += 1
            else:
                self.add(row)
                good.append(line)
        return good

    def add(self, row: dict[str, Any]) -> None:
        self.rows += 1
        step = row.get("step")
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                self.names[name] = joined(self.names.get(name), single(value, step))

    def merge(self, later: Summary) -> None:
        """Take over what a later attempt saw."""
        self.rows += later.rows
        self.bad += later.bad
        for name, found in later.names.items():
            self.names[name] = joined(self.names.get(name), found)

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "bad": self.bad, "names": self.names}


def single(value: float, step: Any) -> dict[str, Any]:
    """Return the summary of one value. NaN and infinities, which JSON has not, are told by name and never best."""
    number: Any = told(value)
    best = number if is_finite(value) else None
    step = told(step)
    found = {"count": 1, "last": number, "last_step": step}
    return {**found, "min": best, "min_step": step, "max": best, "max_step": step}


def told(value: Any) -> Any:
    """Return a number as JSON can carry it; what is no number at all is no step either."""
    if isinstance(value, (int, float)) and not is_finite(value):
        return str(value)[:MOST_DIGITS]
    return value if isinstance(value, (int, float, str)) else None


def is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond what a float can hold
        return False


def joined(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of what was seen before and after."""
    if old is None:
        return new
    found = {**new, "count": old["count"] + new["count"]}
    for end, better in (("min", min), ("max", max)):
        values = [summary[end] for summary in (old, new) if summary[end] is not None]
        if values and better(values) == old[end]:
            found[end], found[end + "_step"] = old[end], old[end + "_step"]
    return found
