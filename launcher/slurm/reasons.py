"""Why a job waits, in plain words: slurm/reasons.toml says what Slurm's codes mean to a person, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from launcher.data import data_path
from launcher.errors import TargetError
from launcher.toml import parse


def plain(reason: str) -> str:
    """Return a pending reason of squeue (its %r) in plain words; one that nobody knows as it is, marked as Slurm's."""
    code = reason.strip().strip("()").partition(",")[0]
    told = table().get(code)
    if told is None:
        told = family(code)
    if told is None:
        return f"Slurm says: {reason.strip()}"
    return f"{told['means']} ({code})" + (f"; {told['do']}" if told.get("do") else "")


def family(code: str) -> Mapping[str, str] | None:
    """Return what is said of all limits of one kind: there are some eighty of them, named alike."""
    for prefix, told in families().items():
        if code.startswith(prefix):
            return told
    return None


@cache
def whole() -> Mapping[str, Any]:
    path = data_path("slurm", "reasons.toml")
    return parse(path.read_text(), path.name, TargetError)


def table() -> Mapping[str, Mapping[str, str]]:
    told: Mapping[str, Mapping[str, str]] = whole()["reason"]
    return told


def families() -> Mapping[str, Mapping[str, str]]:
    told: Mapping[str, Mapping[str, str]] = whole()["begins"]
    return told
