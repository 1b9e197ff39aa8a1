"""The schedulers' word on a sweep: its submissions are in the store, and their targets are asked, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.records.standing import Sight
    from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What schedulers say of a sweep's points; `seen` is None where none answered. `sent` are the submitted points."""

    seen: Mapping[int, Sight] | None = None
    sent: frozenset[int] = frozenset()
    targets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What one target said."""

    seen: Mapping[int, Sight] = field(default_factory=dict)
    note: str | None = None


def second_opinion(store: Store, sweep: str) -> Opinion:
    """Ask every target that points of a sweep were submitted to. What doesn't answer is told, and stays unknown."""
    return Opinion()
