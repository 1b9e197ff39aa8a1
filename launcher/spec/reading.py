"""What reading a spec needs at hand: where files are, what is wrong so far, and how to say it."""

from __future__ import annotations

import contextlib
import difflib
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from launcher.errors import Problem, Where
from launcher.spec.nodes import Mapping, Node, Scalar, Sequence


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reading of one spec. Relative paths in it count from `folder`."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: Where, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(message=message, where=where, hint=hint))

    def path(self, text: str) -> Path:
        """Return the absolute path that a spec's text means; `~` is the user's home."""
        path = Path(text)
        with contextlib.suppress(RuntimeError):  # `~nobody`, or a loop of links: the path is then found missing
            path = path.expanduser()
            return Path(self.folder, path).resolve()
        return Path(self.folder, path)


def kind_of(path: Path) -> str | None:
    """Return "file", "folder" or "something else" for what is there, or None when it is missing or out of reach."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "something else"


def said(node: Node) -> str:
    """Describe what was written, for a message."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.value is None or not node.text.strip():
        return "nothing"
    if isinstance(node.value, bool):
        return f"the boolean {node.text}"
    if isinstance(node.value, (int, float)):
        return f"the number {node.text}"
    return shortened(node.text)


def shortened(text: str, limit: int = 60) -> str:
    """Return text as `text`, on one line, not too long, and without the credentials of a URL."""
    text = re.sub(r"://[^/@\s]+@", "://***@", text)
    line = text if text.isprintable() else repr(text)[1:-1]
    return f"`{line}`" if len(line) <= limit else f"`{line[: limit - 3]}...`"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` is most likely a slip of."""
    choices = list(known)
    lowered = {choice.lower().replace("-", "_"): choice for choice in choices}
    if (same := lowered.get(word.lower().replace("-", "_"))) is not None:
        return same
    found = difflib.get_close_matches(word.lower(), list(lowered), 1, 0.6)
    return lowered[found[0]] if found else None


def text_of(node: Node, reading: Reading, expected: str, *, traps: bool = True) -> str | None:
    """Return a node's text, or tell that something else stands there.

    With `traps` off, a plain `off` or `1:30` is taken as the text that it is in YAML 1.2.
    """
    if isinstance(node, Scalar) and node.trap and traps:
        reading.add(node.where, f"expected {expected}, and {node.trap}")
    elif isinstance(node, Scalar) and isinstance(node.value, str) and node.value.strip():
        return node.value
    elif isinstance(node, Scalar) and not isinstance(node.value, str) and node.value is not None:
        reading.add(node.where, f"expected {expected}, not {said(node)}", f'quote it to have text: "{node.text}"')
    else:
        reading.add(node.where, f"expected {expected}, not {said(node)}")
    return None


def path_hint(text: str, reading: Reading) -> str:
    """Say where a relative path counts from, and what is there under a similar name."""
    path = reading.path(text)
    siblings = [entry.name for entry in path.parent.iterdir()] if kind_of(path.parent) == "folder" else []
    near = nearest(path.name, siblings)
    if near and near != path.name:
        return f"did you mean {text[: len(text) - len(path.name)] if text.endswith(path.name) else ''}{near}?"
    if "$" in text:
        return "environment variables are not filled in here; write the path itself"
    return "a relative path counts from the folder of the spec"
