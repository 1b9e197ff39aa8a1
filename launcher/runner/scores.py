"""What a metric was at a checkpoint: for the rule that keeps the best one."""

from __future__ import annotations

from launcher.runner.metrics import Tail, is_finite, parse
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeGuard

    from launcher.runner.attempt import Attempt
    from launcher.store.objects import Store


class Scores:
    """The values of one metric, of this attempt and of those before it."""

    def __init__(self, attempt: Attempt, name: str) -> None:
        self.attempt, self.name = attempt, name
        self.tail = Tail(attempt.path("metrics.jsonl"))
        self.rows: dict[int, int] = {}  # attempt -> how many rows of it were read
        self.by_step: dict[float, float] = {}
        self.by_row: dict[int, list[tuple[int, float]]] = {}  # attempt -> (rows up to this one, value)

    def look(self) -> int:
        """Read what is new in this attempt's file; return how many rows it has by now."""
        while True:
            before = self.tail.offset
            self.add(self.attempt.number, self.tail.lines())
            if self.tail.offset == before:
                return self.rows.get(self.attempt.number, 0)

    def look_back(self, store: Store) -> None:
        """Read the chunks of the attempts before this one."""
        chunks = [entry.key for entry in store.list(keys.metrics(self.attempt.run))]
        older = [key for key in chunks if keys.numbers(key)[0] < self.attempt.number]
        found = {key: data for key, data in store.get_many(older) if data is not None}
        for key in sorted(found):
            self.add(keys.numbers(key)[0], found[key].splitlines())

    def add(self, attempt: int, lines: Iterable[bytes]) -> None:
        for row in filter(None, map(parse, lines)):
            self.rows[attempt] = self.rows.get(attempt, 0) + 1
            value, step = row.get(self.name), row.get("step")
            if is_number(value):
                self.by_row.setdefault(attempt, []).append((self.rows[attempt], float(value)))
                if is_number(step):
                    self.by_step[float(step)] = float(value)

    def at(self, manifest: Mapping[str, Any], step: int) -> float | None:
        """Return the value of the row with a checkpoint's step, else of the last row before it was stored.

        `rows` in the manifest says how many rows its attempt had logged by then.
        """
        if step in self.by_step:
            return self.by_step[step]
        before = manifest.get("rows", 0)
        values = [value for rows, value in self.by_row.get(manifest["attempt"], ()) if rows <= before]
        return values[-1] if values else None


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)
