"""Which of the checkpoints that wait for the store are given up: what `keep` would not keep, and what is too much.

Pure; no store, no clock.
"""

from __future__ import annotations

from launcher.runner.keeping import Checkpoint, retained, step_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from launcher.runner.holding import Held
    from launcher.runner.scores import Scores


def superfluous(
    waiting: Sequence[Held], keep: Mapping[str, Any], most_bytes: int, scores: Scores | None = None
) -> tuple[list[Held], list[Held]]:
    """Return (those that `keep` would forget as soon as they are stored, those beyond `most_bytes`), oldest first.

    `scores` knows what `keep: best` goes by. The newest is in neither. Milestones (`every`) are given up last.
    """
    wanted = kept(waiting, keep, scores)
    unwanted = [held for held in waiting if str(held.seq) not in wanted]
    left = sorted((held for held in waiting if held not in unwanted), key=lambda held: held.seq)
    milestones = kept(left, {"every": keep["every"]}) if keep.get("every") else set()
    surplus: list[Held] = []
    for held in sorted(left[:-1], key=lambda held: (str(held.seq) in milestones, held.seq)):
        if sum(one.bytes for one in left) - sum(one.bytes for one in surplus) <= most_bytes:
            break
        surplus.append(held)
    return unwanted, surplus


def kept(waiting: Sequence[Held], keep: Mapping[str, Any], scores: Scores | None = None) -> set[str]:
    """Return the numbers of those that the rules would keep among themselves: all that they would keep among more.

    One whose step has no value yet, where the metric comes with steps, may turn out to be the best.
    """
    found = [seen(held, scores) for held in waiting]
    by_step = scores.by_step if scores else {}
    open_ones = {one.key for one in found if by_step and one.step not in by_step}
    return retained(found, keep) | (open_ones if keep.get("best") else set())


def seen(held: Held, scores: Scores | None) -> Checkpoint:
    step = step_of(held.name, held.seq)
    told = {"attempt": scores.attempt.number, "rows": held.rows} if scores else {}
    return Checkpoint(str(held.seq), (1, held.seq), step, scores.at(told, step) if scores else None)
