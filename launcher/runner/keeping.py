"""The rule of `keep`: which checkpoints stay. Pure; no store, no clock."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

RULES = ("last", "every", "best")


class Checkpoint:
    """A checkpoint as the rule sees it. `at` is (attempt, number), by which they are ordered; `value` the metric's."""

    __slots__ = ("at", "key", "step", "value")

    def __init__(self, key: str, at: tuple[int, int], step: int, value: float | None = None) -> None:
        self.key, self.at, self.step, self.value = key, at, step, value


def step_of(name: str, seq: int) -> int:
    """Return a checkpoint's step: the last number in its name (of digits), else its number within the attempt."""
    digits = "".join(c if c in "0123456789" else " " for c in name).split()
    return int(digits[-1]) if digits else seq


def retained(found: Sequence[Checkpoint], keep: Mapping[str, Any]) -> set[str]:
    """Return the keys of the checkpoints that any of the rules keeps; the newest always stays.

    Without a rule all of them do. So they do when `best` names a metric that none of them has a value of: a
    misspelt name must not delete the best ones.
    """
    rules = {name: keep[name] for name in RULES if keep.get(name) is not None}
    ordered = sorted(found, key=lambda checkpoint: checkpoint.at)
    valued = [checkpoint for checkpoint in ordered if checkpoint.value is not None]
    if not rules or ("best" in rules and not valued):
        return {checkpoint.key for checkpoint in found}
    kept = ordered[-max(1, rules.get("last", 1)) :]
    if "every" in rules:
        kept += milestones(ordered, int(rules["every"]))
    if valued and "best" in rules:
        kept.append(best(valued, keep.get("mode", "min")))
    return {checkpoint.key for checkpoint in kept}


def milestones(ordered: Sequence[Checkpoint], every: int) -> list[Checkpoint]:
    """Return the first checkpoint at or after each multiple of `every` steps; for step 0, only one of that step.

    Of a step that was done twice, because the run was resumed before it, the newer one counts.
    """
    found: dict[int, Checkpoint] = {}
    for checkpoint in ordered:
        part, past = divmod(checkpoint.step, every)
        if (part or not past) and (part not in found or checkpoint.step <= found[part].step):
            found[part] = checkpoint
    return list(found.values())


def best(valued: Sequence[Checkpoint], mode: str) -> Checkpoint:
    """Return the checkpoint with the smallest value (the largest with "max"); of equals the newest."""
    sign = -1.0 if mode == "max" else 1.0
    return min(reversed(valued), key=lambda checkpoint: sign * (checkpoint.value or 0.0))
