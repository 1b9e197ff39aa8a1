"""Reads YAML text into nodes that know their line, column and key path, by the rules of YAML 1.2's core schema.

PyYAML supplies the syntax only. What a plain scalar means, `launcher.spec.scalars` decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from launcher.errors import Problem, Where
from launcher.spec.model import Param
from launcher.spec.scalars import meaning, trap

MAX_NODES = 10_000
MAX_DEPTH = 32

PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One value. `text` is what was written, `value` what it means, `trap` why it is ambiguous (or None)."""

    where: Where
    text: str
    value: Param
    trap: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sequence:
    where: Where
    items: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A key of a mapping, where the key stands, and its value."""

    key: str
    where: Where
    value: Node


@dataclass(frozen=True, kw_only=True)
class Mapping:
    where: Where
    entries: tuple[Entry, ...]


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """Return a node as ordinary Python values, without places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.value) for entry in node.entries}


class ShallowLoader(yaml.BaseLoader):
    """PyYAML's syntax, no meanings, and an end to nesting before it costs time or Python's stack."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, f"more than {MAX_DEPTH} levels deep", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class Composer:
    """Turns PyYAML's nodes into ours, collecting what is wrong. Aliases are followed, within a bound."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.left = MAX_NODES
        self.unusable = False  # what follows from here on would be about values that nobody wrote

    def where(self, node: yaml.Node, key: str) -> Where:
        mark = node.start_mark
        return Where(file=self.file, line=mark.line + 1, column=mark.column + 1, key=key or None)

    def add(self, where: Where, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(message=message, where=where, hint=hint))

    def give_up(self, where: Where, message: str, hint: str) -> Scalar:
        """Tell of something that makes all other problems noise."""
        self.add(where, message, hint)
        self.unusable = True
        return Scalar(where=where, text="", value=None)

    def node(self, node: yaml.Node, key: str = "", depth: int = 0) -> Node:
        where = self.where(node, key)
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            return self.too_much(node, depth)
        if node.tag not in PLAIN_TAGS:
            return self.give_up(where, f"the tag {node.tag} is not understood", "write the value without a !tag")
        if isinstance(node, yaml.SequenceNode):
            items = tuple(self.node(item, f"{key}[{i}]", depth + 1) for i, item in enumerate(node.value))
            return Sequence(where=where, items=items)
        if isinstance(node, yaml.MappingNode):
            return Mapping(where=where, entries=self.entries(node, key, depth))
        assert isinstance(node, yaml.ScalarNode)
        return self.scalar(node, where)

    def too_much(self, node: yaml.Node, depth: int) -> Node:
        """Refuse what only a bomb of aliases has; told once, without a key path that is as long as the bomb."""
        what = f"more than {MAX_DEPTH} levels deep" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
        where = self.where(node, "")
        self.left = min(self.left, 0)
        if self.unusable:
            return Scalar(where=where, text="", value=None)
        hint = "write it without anchors; many points go into a .csv file (`sweep.file`)"
        return self.give_up(where, f"{what}, aliases included", hint)

    def entries(self, node: yaml.MappingNode, path: str, depth: int) -> tuple[Entry, ...]:
        seen: dict[str, Where] = {}
        found: list[Entry] = []
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            if key is None or self.left < 0:
                continue
            place = f"{path}.{key}" if path else key
            where = self.where(key_node, place)
            if key in seen:
                self.add(where, f"the key is written twice; the first is in line {seen[key].line}", "keep one of them")
                continue
            seen[key] = where
            found.append(Entry(key=key, where=where, value=self.node(value_node, place, depth + 1)))
        return tuple(found)

    def key(self, node: yaml.nodes.Node, path: str) -> str | None:
        where = self.where(node, path)
        if not isinstance(node, yaml.ScalarNode):
            self.add(where, "a list or mapping can't be a key", "quote text that begins with [ or {")
            return None
        if node.style is None and node.value == "<<":
            self.add(where, "merge keys (<<) are not part of YAML 1.2", "write the keys out")
            return None
        return str(self.scalar(node, where).text)

    def scalar(self, node: yaml.ScalarNode, where: Where) -> Scalar:
        text = str(node.value)
        if any(0xD800 <= ord(character) <= 0xDFFF or character == "\0" for character in text):
            return self.give_up(where, "a NUL or half a surrogate pair is no text", r"leave the \0 or \ud8.. out")
        if node.style is not None:
            return Scalar(where=where, text=text, value=text)
        value = meaning(text)
        if isinstance(value, float) and not math.isfinite(value):
            self.add(where, f"{text} is not a finite number", "leave the key out, or quote it to have text")
        return Scalar(where=where, text=text, value=value, trap=trap(text))


def compose(text: str, file: str) -> tuple[Node | None, tuple[Problem, ...]]:
    """Parse YAML. Return its root (None for an empty or unreadable text) and what is wrong with it."""
    composer = Composer(file)
    try:
        root = yaml.compose(text, Loader=ShallowLoader)
    except yaml.YAMLError as e:
        return None, (syntax_problem(e, text, file),)
    if root is None:
        return None, ()
    node = composer.node(root)
    return None if composer.unusable else node, tuple(composer.problems)


def syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """Say a parser's complaint in our words, with its place."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        return Problem(
            message=f"the character U+{code:04X} is not allowed in YAML",
            where=Where(file=file, line=line, column=column),
        )
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(message=f"not YAML: {error}", where=Where(file=file))
    mark = error.problem_mark or error.context_mark
    where = Where(file=file, line=mark.line + 1, column=mark.column + 1) if mark else Where(file=file)
    said = (error.problem or "it can't be parsed").removeprefix("but ")
    context = f" ({error.context})" if error.context else ""
    return Problem(message=f"not YAML: {said}{context}", where=where, hint=syntax_hint(said + context))


def syntax_hint(said: str) -> str | None:
    """Guess what a person did who got this complaint."""
    if r"'\t'" in said:
        return "YAML indents by spaces; replace the tab"
    if "mapping values are not allowed" in said:
        return "quote text that contains `: `, and check the indentation"
    if "found undefined alias" in said or "while scanning an alias" in said:
        return "quote text that begins with * or &"
    if "single document" in said or "another document" in said:
        return "one file holds one spec; remove the second `---`"
    if "cannot start any token" in said:
        return "quote text that begins with %, @ or `"
    if "expected <block end>" in said or "could not find expected ':'" in said:
        return "check the indentation here and in the lines before, and quote text with special characters"
    if "quoted scalar" in said or "end of stream" in said or "flow" in said:
        return "a quote or bracket is opened and never closed"
    return None
