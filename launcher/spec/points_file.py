"""Reads a file of points: .csv, .jsonl, .json or .yaml, each row a point. Values mean what they mean under `params`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import Where
from launcher.spec import nodes
from launcher.spec.forms import Form
from launcher.spec.nodes import Node
from launcher.spec.points import ROWS, Row, misfit, read_rows
from launcher.spec.reading import Reading, kind_of, path_hint, shortened, text_of
from launcher.spec.scalars import word_meaning, word_trap

EXPECTED = "a file of points: .csv, .jsonl, .json or .yaml"
MAX_BYTES = 1 << 27
MANY = 20  # so many problems of one file are told


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a file of points holds."""

    path: Path
    where: Where  # of its name in the spec
    rows: tuple[Row, ...]


def read_file(node: Node, reading: Reading) -> Rows | None:
    """Read the file that a spec names."""
    text = text_of(node, reading, EXPECTED)
    if text is None:
        return None
    path = reading.path(text)
    reader = READERS.get(path.suffix.lower())
    if kind_of(path) != "file":
        problem = "is not there" if kind_of(path) is None else "is no file"
        reading.add(node.where, f"{shortened(text)} {problem}", path_hint(text, reading))
    elif reader is None:
        reading.add(node.where, f"expected {EXPECTED}, not {shortened(text)}")
    elif (content := content_of(path, node.where, reading)) is not None:
        inner = Reading(folder=path.parent)
        rows = tuple(reader(content, shown(text, node.where), inner))
        reading.problems.extend(inner.problems[:MANY])
        if (more := len(inner.problems) - MANY) > 0:
            reading.add(inner.problems[MANY].where or node.where, f"and {more} more problems in this file")
        if not rows and not inner.problems:
            reading.add(node.where, f"{shortened(text)} holds no point")
        return Rows(path=path, where=node.where, rows=rows)
    return None


def shown(text: str, where: Where) -> str:
    """Return the file's name as a message tells it: seen from where the spec's name was given."""
    return str(Path(where.file).parent / text)


def content_of(path: Path, where: Where, reading: Reading) -> str | None:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
        if data is not None:
            return data.decode("utf-8-sig")
        reading.add(where, f"the file of points is larger than {MAX_BYTES >> 20} MiB")
    except OSError as e:
        reading.add(where, f"the file of points can't be read: {e.strerror}")
    except UnicodeDecodeError as e:
        reading.add(where, f"the file of points is no UTF-8 at its byte {e.start}", "save the file as UTF-8")
    return None


def from_csv(text: str, file: str, reading: Reading) -> Iterator[Row]:
    """Read a table (RFC 4180) whose first line names the parameters."""
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    heads: list[str] = []
    try:
        for cells in table:
            where = Where(file=file, line=table.line_num)
            if not heads:
                heads = [cell.strip() for cell in cells]
                refuse_heads(heads, where, reading)
            elif len(cells) != len(heads) and cells:
                reading.add(where, f"the line has {len(cells)} cells, and the first one has {len(heads)}")
            elif cells:
                yield typed(heads, cells, where, reading)
    except csv.Error as e:
        reading.add(Where(file=file, line=table.line_num), f"not CSV: {e}", "a quote within quotes is written twice")


def refuse_heads(heads: list[str], where: Where, reading: Reading) -> None:
    for name in dict.fromkeys(heads):
        if heads.count(name) > 1 or not name:
            what = f"the column {shortened(name)} is there twice" if name else "a column has no name"
            reading.add(where, what, "the first line names the parameters")


def typed(heads: list[str], cells: list[str], where: Where, reading: Reading) -> Row:
    """Return the row of a table's line. Empty cells are refused: some tools write null like this, and some nothing."""
    words = dict(zip(heads, map(str.strip, cells), strict=True))
    for name, word in words.items():
        if not word:
            hint = "write null; a point that leaves a parameter out is written as .jsonl"
            reading.add(where, f"the cell of {name} is empty", hint)
        elif reason := word_trap(word) or misfit(word_meaning(word)):
            reading.add(where, f"{name}: {reason}", "'...' within the cell makes it text" if word_trap(word) else None)
    return Row(where=where, values={name: word_meaning(word) for name, word in words.items()})


def from_jsonl(text: str, file: str, reading: Reading) -> Iterator[Row]:
    """Read one JSON object a line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = Where(file=file, line=number)
            yield from objects([parsed(line, where, reading)], [where], reading)


def from_json(text: str, file: str, reading: Reading) -> Iterator[Row]:
    """Read one JSON array of objects."""
    told = parsed(text, Where(file=file), reading)
    if isinstance(told, list):
        places = (Where(file=file, key=f"[{i}]") for i in range(len(told)))
        yield from objects(told, places, reading)
    elif told is not UNREAD:
        reading.add(Where(file=file), f"expected {ROWS} as [{{...}}, ...]", "one object a line is .jsonl")


def parsed(text: str, where: Where, reading: Reading) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: single(pairs, where, reading))
    except (ValueError, RecursionError) as e:
        line = where.line or getattr(e, "lineno", None)
        reading.add(Where(file=where.file, line=line), f"not JSON: {getattr(e, 'msg', e)}")
        return UNREAD


def single(pairs: list[tuple[str, Any]], where: Where, reading: Reading) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        reading.add(where, "a name is there twice in one point")
    return found


def objects(found: Iterable[Any], places: Iterable[Where], reading: Reading) -> Iterator[Row]:
    for one, where in zip(found, places, strict=True):
        if isinstance(one, dict):
            reasons = {name: reason for name, value in one.items() if (reason := misfit(value))}
            for name, reason in reasons.items():
                reading.add(where, f"{name}: {reason}")
            yield Row(where=where, values={name: None if name in reasons else value for name, value in one.items()})
        elif one is not UNREAD:
            reading.add(where, 'expected a point such as {"lr": 0.1}')


def from_yaml(text: str, file: str, reading: Reading) -> Iterator[Row]:
    """Read a list as `sweep.list` has it."""
    root, problems = nodes.compose(text, file)
    reading.problems.extend(problems)
    if root is not None:
        yield from read_rows(root, reading) or ()


UNREAD = object()
READERS: dict[str, Callable[[str, str, Reading], Iterable[Row]]] = {
    ".csv": from_csv,
    ".jsonl": from_jsonl,
    ".json": from_json,
    ".yaml": from_yaml,
    ".yml": from_yaml,
}
FILE = Form(expected=EXPECTED, schema={"type": "string", "pattern": r"\.(csv|jsonl|json|ya?ml)$"}, read=read_file)
