"""The forms of points that are written out: `sweep.grid`, `sweep.zip` and `sweep.list`, read with their places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from launcher.errors import Where
from launcher.spec import nodes
from launcher.spec.forms import Form, is_empty
from launcher.spec.model import Param
from launcher.spec.nodes import Entry, Node, Scalar
from launcher.spec.reading import Reading, said

TEXT_HINT = "quote it to have text"
SCALARS = {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A parameter with the values that it takes."""

    name: str
    where: Where
    values: tuple[Param, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The parameters that one point sets, and where each stands."""

    where: Where
    values: dict[str, Param] = field(default_factory=dict)
    places: dict[str, Where] = field(default_factory=dict)


def identity(value: Param) -> tuple[type, Param]:
    """Return what tells values apart: 1, 1.0 and true are three, as a program sees them."""
    return type(value), value


def read_value(node: Node, reading: Reading) -> Param:
    """Read one value as `params` has them."""
    if not isinstance(node, Scalar):
        reading.add(node.where, f"expected text, a number, true, false or null, not {said(node)}", TEXT_HINT)
        return None
    if node.trap:
        reading.add(node.where, node.trap.partition("; ")[0], node.trap.partition("; ")[2])
    return node.value


def read_columns(node: Node, reading: Reading) -> tuple[Column, ...] | None:
    """Read a mapping from parameters to lists of values."""
    if is_empty(node):
        return None
    if not isinstance(node, nodes.Mapping):
        hint = "write one `name: [value, value]` a line, indented"
        reading.add(node.where, f"expected {COLUMNS}, not {said(node)}", hint)
        return None
    return tuple(column for entry in node.entries if (column := read_column(entry, reading)))


def read_column(entry: Entry, reading: Reading) -> Column | None:
    node = entry.value
    if isinstance(node, nodes.Sequence) and node.items:
        refuse_twice(node, reading)
        return Column(name=entry.key, where=entry.where, values=tuple(read_value(item, reading) for item in node.items))
    hint = f"write [{node.text}]" if isinstance(node, Scalar) and not is_empty(node) else None
    if isinstance(node, nodes.Mapping):
        hint = "distributions stand under `sweep.random`"
    what = "an empty list" if isinstance(node, nodes.Sequence) else said(node)
    reading.add(node.where, f"expected a list of values, not {what}", hint)
    return None


def refuse_twice(node: nodes.Sequence, reading: Reading) -> None:
    seen = set()
    for item in node.items:
        if isinstance(item, Scalar) and (key := identity(item.value)) in seen:
            reading.add(item.where, f"{said(item)} is written twice", "keep one of them: equal points run once")
        elif isinstance(item, Scalar):
            seen.add(key)


def read_pairs(node: Node, reading: Reading) -> tuple[Column, ...] | None:
    """Read lists of equal lengths, whose first values make the first point, and so on."""
    if is_empty(node):
        return None
    if not isinstance(node, nodes.Mapping):
        return read_columns(node, reading)
    lists = {entry.key: entry for entry in node.entries if isinstance(entry.value, nodes.Sequence)}
    lengths = {name: len(entry.value.items) for name, entry in lists.items() if isinstance(entry.value, nodes.Sequence)}
    first = next(iter(lengths), "")
    for name, length in lengths.items():
        if length != lengths[first]:
            message = f"it has {length} values, and {first} in line {lists[first].where.line} has {lengths[first]}"
            reading.add(lists[name].where, message, "lists that are zipped are equally long; `sweep.grid` multiplies")
    return tuple(column for entry in node.entries if (column := read_pair(entry, reading)))


def read_pair(entry: Entry, reading: Reading) -> Column | None:
    """Read a list whose values may be there twice."""
    node = entry.value
    if not isinstance(node, nodes.Sequence) or not node.items:
        return read_column(entry, reading)
    return Column(name=entry.key, where=entry.where, values=tuple(read_value(item, reading) for item in node.items))


def read_rows(node: Node, reading: Reading) -> tuple[Row, ...] | None:
    """Read a list of points, each a mapping from parameters to values."""
    if is_empty(node):
        return None
    if not isinstance(node, nodes.Sequence):
        hint = "begin each point with `- `, as in `- {lr: 0.1}`"
        reading.add(node.where, f"expected {ROWS}, not {said(node)}", hint)
        return None
    if not node.items:
        reading.add(node.where, f"expected {ROWS}, not an empty list", "leave the key out where none is written out")
    return tuple(rows_of(node, reading))


def rows_of(node: nodes.Sequence, reading: Reading) -> Iterator[Row]:
    for item in node.items:
        if not isinstance(item, nodes.Mapping):
            reading.add(item.where, f"expected a point such as {{lr: 0.1}}, not {said(item)}")
            continue
        values = {entry.key: read_value(entry.value, reading) for entry in item.entries}
        yield Row(where=item.where, values=values, places={entry.key: entry.where for entry in item.entries})


def misfit(value: object) -> str | None:
    """Return why a value of a file of points can be no parameter's, or None."""
    if isinstance(value, (list, dict)):
        return "expected text, a number, true, false or null, not a " + (
            "list" if isinstance(value, list) else "mapping"
        )
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
        return "a NUL or half a surrogate pair is no text"
    return None


COLUMNS = "a mapping from parameters to lists of values"
ROWS = "a list of points"
LISTS_SCHEMA = {
    "type": ["object", "null"],
    "additionalProperties": {"type": "array", "minItems": 1, "items": SCALARS},
}
GRID = Form(expected=COLUMNS, schema=LISTS_SCHEMA, read=read_columns)
ZIP = Form(expected=COLUMNS, schema=LISTS_SCHEMA, read=read_pairs)
LIST = Form(
    expected=ROWS,
    schema={"type": ["array", "null"], "minItems": 1, "items": {"type": "object", "additionalProperties": SCALARS}},
    read=read_rows,
)
