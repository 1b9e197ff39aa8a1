"""Which script a folder's training begins with, and which options it takes, read from its syntax tree."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.spec.command import NAME, variable
from launcher.spec.model import Param

USUAL = ("train.py", "main.py", "run.py", "src/train.py", "src/main.py", "scripts/train.py")
WRITABLE = re.compile(r"[\w./ +@,-]+")
OPTION = re.compile(r"--(" + NAME.pattern + r")")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a script. `known` tells that `default` was there and is a plain value."""

    name: str
    default: Param = None
    known: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """`path` is relative, with /; `others` are as likely; `positional` arguments are for a person to fill in."""

    path: str
    others: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    positional: tuple[str, ...] = ()
    subcommands: bool = False


def find(folder: Path, parsed: Mapping[Path, ast.Module]) -> Entry | None:
    """Return the script that a person would start, or None when none is in sight."""
    relative = {path.relative_to(folder).as_posix(): tree for path, tree in parsed.items()}
    scripts = {path: tree for path, tree in relative.items() if WRITABLE.fullmatch(path)}
    runnable = [path for path, tree in scripts.items() if is_runnable(tree)]
    runnable.sort(key=lambda path: (path.count("/"), path))
    usual = [path for path in USUAL if path in scripts]
    if not usual and not runnable and len(scripts) == 1:
        runnable = list(scripts)
    if not (candidates := usual or runnable):
        return None
    first, *others = candidates
    return described(first, tuple(others) if not usual else (), scripts[first])


def is_runnable(tree: ast.Module) -> bool:
    """Tell whether a file has `if __name__ == "__main__"` at its top level."""
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return any("__name__" in test and "__main__" in test for test in tests)


def described(path: str, others: tuple[str, ...], tree: ast.Module) -> Entry:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    names = [called(call) for call in calls]
    positional = [name for call in calls if called(call) == "add_argument" and (name := positional_name(call))]
    return Entry(
        path=path,
        others=others,
        options=tuple(unique(option for call in calls if (option := option_of(call)))),
        positional=tuple(dict.fromkeys(positional)),
        subcommands="add_subparsers" in names,
    )


def unique(options: Iterator[Option]) -> Iterator[Option]:
    """Drop options whose parameters would share an environment variable."""
    seen: set[str] = set()
    for option in options:
        if variable(option.name) not in seen:
            seen.add(variable(option.name))
            yield option


def called(call: ast.Call) -> str:
    """Return the last part of what is called: `add_argument` of `parser.add_argument`."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def option_of(call: ast.Call) -> Option | None:
    """Return the option that argparse's `add_argument` or click's `option` declares, if it takes one value."""
    if called(call) not in ("add_argument", "option"):
        return None
    flags = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    long = next((found[1] for flag in flags if (found := OPTION.fullmatch(flag))), None)
    keywords = {word.arg: word.value for word in call.keywords if word.arg}
    if long is None or {"action", "nargs", "is_flag", "multiple", "count"} & set(keywords):
        return None
    known, default = plain_value(keywords.get("default"))
    return Option(name=long, default=default, known=known)


def plain_value(node: ast.expr | None) -> tuple[bool, Param]:
    """Return whether an expression is a value that a parameter may have, and the value."""
    if node is None:
        return False, None
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None
    if isinstance(value, float) and not math.isfinite(value):
        return False, None
    if isinstance(value, str) and not is_writable(value):
        return False, None
    return isinstance(value, (str, int, float)), value if isinstance(value, (str, int, float)) else None


def is_writable(text: str) -> bool:
    return "\0" not in text and not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def positional_name(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("-"):
        return first.value
    return None
