"""Which attempts of a run a box and the real store have in common: two boxes that went on by themselves never mix.

An attempt is known by the bytes of its event 0, a claim by its own; both are created conditionally in the real store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one side has: sha256 of the event 0 of each attempt, and of each claim with its attempt, by epoch.

    `begun` are attempts that have more than that event: one that has not may still be taken back.
    """

    queued: Mapping[int, str] = field(default_factory=dict)
    claims: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    begun: frozenset[int] = frozenset()

    def to_json(self) -> dict[str, Any]:
        return {
            "queued": {str(number): sha256 for number, sha256 in self.queued.items()},
            "claims": {str(epoch): list(claim) for epoch, claim in self.claims.items()},
            "begun": sorted(self.begun),
        }


def line_from(told: Mapping[str, Any]) -> Line:
    """Read a line back. Raises KeyError, TypeError or ValueError when it is none."""
    return Line(
        queued={int(number): str(sha256) for number, sha256 in told["queued"].items()},
        claims={int(epoch): (int(attempt), str(sha256)) for epoch, (attempt, sha256) in told["claims"].items()},
        begun=frozenset(told["begun"]),
    )


def foreign_from(box: Line, real: Line) -> int | None:
    """Return the first attempt of a box that is not the real store's, and whose successors aren't; None: all are. Pure.

    That is one which both have, and differently; one whose claim is another's in the real store; and one that the
    real store hasn't got, although it went on without the box.
    """
    found = [number for number in box.queued if number in real.queued and box.queued[number] != real.queued[number]]
    found += [claim[0] for epoch, claim in box.claims.items() if epoch in real.claims and real.claims[epoch] != claim]
    unknown = set(real.queued) - set(box.queued)
    if unknown or went_on(box, real):
        found += [number for number in box.queued if number not in real.queued or number > min(unknown, default=number)]
    return min(found, default=None)


def went_on(box: Line, real: Line) -> bool:
    """Tell whether the real store has claims that the box doesn't know: another machine has the run."""
    return bool(set(real.claims) - set(box.claims))


def shared(box: Line, real: Line) -> frozenset[int]:
    """Return the attempts of a box whose objects belong into the real store. Pure."""
    first = foreign_from(box, real)
    ours = [number for number in box.queued if first is None or number < first]
    return frozenset(number for number in ours if number in real.queued or number in box.begun)
