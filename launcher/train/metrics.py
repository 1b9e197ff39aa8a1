"""Metrics: one JSON line for each call, appended by a single write, so that lines of several processes never mix."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

from launcher.train import ranks
from launcher.train.places import metrics_file


def log(step: int | None = None, **metrics: Any) -> None:
    """Append metrics: numbers, or tensors and arrays of one number, texts for labels. Rank 0 alone writes.

    Training goes on when they can't be written: that is told once, as a warning. Raises TypeError for other values.
    """
    if ranks.rank() != 0:
        return
    row = {} if step is None else {"step": int(step)}
    row |= {name: plain(name, value) for name, value in metrics.items()}
    data = json.dumps(row).encode() + b"\n"
    try:
        descriptor = os.open(metrics_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            append(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError as e:
        warnings.warn(f"metrics are not written: {metrics_file()}: {e.strerror}", RuntimeWarning, stacklevel=2)


def append(descriptor: int, data: bytes) -> None:
    """Write a line at once. What a full disk cut in two is closed by a line feed, so that the next line is whole."""
    if os.write(descriptor, data) < len(data):
        os.write(descriptor, b"\n")


def plain(name: str, value: Any) -> Any:
    """Return a value in JSON's types: `item()` is how numpy, torch and jax give a number away."""
    if not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (RuntimeError, ValueError) as e:
        raise TypeError(f"the metric `{name}` is no single number: {e}") from e
