"""A metric of a run as a series of points, read back from the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from launcher.store import keys
from launcher.store.objects import Store

if TYPE_CHECKING:
    from typing import TypeGuard


def series(store: Store, run: str, name: str) -> list[tuple[float, float]]:
    """Return (step, value) of a metric, by step. Rows without a step count from 1; infinities and NaN are left out.

    A step that a later attempt did again counts once, as it was the last time.
    """
    found: dict[float, float] = {}
    for count, row in enumerate(rows(store, run), 1):
        step, value = row.get("step", count), row.get(name)
        if finite(step) and finite(value):
            found[step] = value
    return sorted(found.items())


def rows(store: Store, run: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's metric chunks in the order in which they were written."""
    for entry in store.list(keys.metrics(run)):
        for line in store.get(entry.key).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def finite(value: object) -> TypeGuard[float]:
    """Tell whether a value can be drawn: a number, and not one beyond what a float can hold."""
    from launcher.runner.metrics import is_finite

    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)
