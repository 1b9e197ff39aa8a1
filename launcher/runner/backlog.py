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


def superfluous(waiting: Sequence[Held], keep: Mapping[str, Any], most_bytes: int) -> tuple[list[Held], list[Held]]:
    """Return (those that `keep` would forget as soon as they are stored, those beyond `most_bytes`), oldest first.

    The newest is in neither. Milestones of `keep` (`every`) are given up last.
    """
    unwanted = [held for held in waiting if str(held.seq) not in kept(waiting, keep)]
    left = sorted((held for held in waiting if held not in unwanted), key=lambda held: held.seq)
    milestones = kept(left, {"every": keep["every"]}) if keep.get("every") else set()
    surplus: list[Held] = []
    for held in sorted(left[:-1], key=lambda held: (str(held.seq) in milestones, held.seq)):
        if sum(one.bytes for one in left) - sum(one.bytes for one in surplus) <= most_bytes:
            break
        surplus.append(held)
    return unwanted, surplus


def kept(waiting: Sequence[Held], keep: Mapping[str, Any]) -> set[str]:
    """Return the numbers of those that the rules would keep among themselves: all that they would keep among more."""
    found = [Checkpoint(str(held.seq), (1, held.seq), step_of(held.name, held.seq)) for held in waiting]
    return retained(found, keep)
