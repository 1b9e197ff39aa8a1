"""What verbs share: how they print results, text for people and JSON for programs, and options that several have."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Add `--json` to a command; the function gets `as_json: bool`. Errors are then told as JSON too."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


HERE = "local"  # this machine, where a target is named


def runtime_option(command: Command) -> Command:
    """Add `--runtime` to a command; the function gets `runtime: str | None`."""
    text = "What runs the container (default: the first that works here)."
    return click.option("--runtime", type=click.Choice(["sandbox", "docker", "podman", "apptainer"]), help=text)(
        command
    )


def print_json(value: object) -> None:
    """Print a value as JSON. Dataclasses, mappings, sequences, sets and paths may be in it."""
    print_text(json_text(value))


def json_text(value: object) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def print_text(text: str) -> None:
    """Print lines to stdout; characters that the terminal's encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def plain(value: object) -> object:
    """Return a value in JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
