"""The forms that values take: each knows what it expects, its JSON Schema, and how to read a node.

Reading returns None for what was left empty, and for what can't be used, after telling why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.spec import nodes
from launcher.spec.nodes import Node, Scalar
from launcher.spec.reading import Reading, nearest, said, shortened, text_of
from launcher.spec.units import MisreadError

Read = Callable[[Node, Reading], Any]


@dataclass(frozen=True, kw_only=True)
class Form:
    """`expected` completes the sentence "expected ..."; `schema` is its JSON Schema."""

    expected: str
    schema: Mapping[str, Any]
    read: Read


def is_empty(node: Node) -> bool:
    """Tell whether a key was written without a value, as when everything below it is commented out."""
    return isinstance(node, Scalar) and node.value is None


def matching(expected: str, pattern: str, hint: str | None = None) -> Form:
    """Return the form of text that a regular expression matches whole."""

    def read(node: Node, reading: Reading) -> str | None:
        text = text_of(node, reading, expected)
        if text is None or re.fullmatch(pattern, text):
            return text
        reading.add(node.where, f"expected {expected}, not {shortened(text)}", hint)
        return None

    return Form(expected=expected, schema={"type": "string", "pattern": f"^(?:{pattern})$"}, read=read)


def one_of(*words: str) -> Form:
    """Return the form of one of a few words."""
    expected = " or ".join(words)

    def read(node: Node, reading: Reading) -> str | None:
        text = text_of(node, reading, expected, traps=False)
        if text is None or text in words:
            return text
        near = nearest(text, words)
        reading.add(
            node.where, f"expected {expected}, not {shortened(text)}", f"did you mean {near}?" if near else None
        )
        return None

    return Form(expected=expected, schema={"enum": list(words)}, read=read)


def truth() -> Form:
    """Return the form of true or false; what only some YAML readers take for one of them is told apart."""

    def read(node: Node, reading: Reading) -> bool | None:
        if isinstance(node, Scalar) and not node.trap and isinstance(node.value, bool):
            return node.value
        hint = node.trap if isinstance(node, Scalar) and node.trap else None
        reading.add(node.where, f"expected true or false, not {said(node)}", hint)
        return None

    return Form(expected="true or false", schema={"type": "boolean"}, read=read)


def integer(expected: str, least: int, most: int | None = None) -> Form:
    """Return the form of a whole number within bounds (both included)."""

    def read(node: Node, reading: Reading) -> int | None:
        value = node.value if isinstance(node, Scalar) and not node.trap else None
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and least <= value
            and (most is None or value <= most)
        ):
            return value
        hint = node.trap if isinstance(node, Scalar) and node.trap else None
        if isinstance(value, str) and value.strip().isdigit():
            hint = "write it without quotes"
        reading.add(node.where, f"expected {expected}, not {said(node)}", hint)
        return None

    schema = {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})
    return Form(expected=expected, schema=schema, read=read)


def amount(expected: str, parse: Callable[[str], Any], pattern: str) -> Form:
    """Return the form of an amount with a unit, which `parse` reads."""

    def read(node: Node, reading: Reading) -> Any:
        if not isinstance(node, Scalar) or is_empty(node):
            reading.add(node.where, f"expected {expected}, not {said(node)}")
            return None
        try:
            return parse(node.text.strip())
        except MisreadError as e:
            reading.add(node.where, f"{shortened(node.text)} {e}", e.hint)
            return None

    return Form(expected=expected, schema={"type": "string", "pattern": pattern}, read=read)


def list_of(item: Form, expected: str) -> Form:
    """Return the form of a list of items of one form."""

    def read(node: Node, reading: Reading) -> tuple[Any, ...] | None:
        if is_empty(node):
            return None
        if not isinstance(node, nodes.Sequence):
            hint = "begin each item with `- `, or write [a, b]"
            reading.add(node.where, f"expected {expected}, not {said(node)}", hint)
            return None
        return tuple(value for entry in node.items if (value := item.read(entry, reading)) is not None)

    return Form(expected=expected, schema={"type": ["array", "null"], "items": item.schema}, read=read)


def mapping_of(value: Form, expected: str, name: str, what: str, name_hint: str) -> Form:
    """Return the form of a mapping from names, which match the pattern `name`, to values of one form."""

    def read(node: Node, reading: Reading) -> dict[str, Any] | None:
        if is_empty(node):
            return None
        if not isinstance(node, nodes.Mapping):
            reading.add(
                node.where, f"expected {expected}, not {said(node)}", "write one `name: value` a line, indented"
            )
            return None
        found: dict[str, Any] = {}
        for entry in node.entries:
            if not re.fullmatch(name, entry.key):
                reading.add(entry.where, f"{shortened(entry.key)} can't be the name of {what}", name_hint)
                continue
            found[entry.key] = value.read(entry.value, reading)
        return found

    schema = {
        "type": ["object", "null"],
        "propertyNames": {"pattern": f"^(?:{name})$"},
        "additionalProperties": value.schema,
    }
    return Form(expected=expected, schema=schema, read=read)
