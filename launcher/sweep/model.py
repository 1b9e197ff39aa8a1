"""The noun of sweeps: a point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.spec.model import Param


@dataclass(frozen=True, kw_only=True)
class Point:
    """One set of parameters of a sweep: those that the sweep sets; all others are as the spec has them.

    `seed` is the run's, where the sweep has a `seed` that is no parameter of the spec; None: the spec's own.
    """

    params: Mapping[str, Param] = field(default_factory=dict)
    seed: int | None = None
