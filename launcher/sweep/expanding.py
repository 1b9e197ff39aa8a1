"""Expands a sweep into its points: every source gives rows, rows are multiplied, equal points count once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from launcher.errors import Problem, UsageError
from launcher.spec.model import Param, Spec, Sweep
from launcher.sweep.drawing import draw
from launcher.sweep.model import Point

Row = Mapping[str, Param]
SEED = "seed"


def expand(spec: Spec) -> tuple[Point, ...]:
    """Return the points of a spec in their order; a spec without a sweep has one, with nothing set.

    The sources are multiplied in the order grid, zip, list, random, file: the first changes slowest, and in a grid the
    parameter that is written first. Points that are equal (drawn numbers may be) are there once, as the first of them.
    """
    if spec.sweep is None:
        return (Point(),)
    own = SEED in spec.params  # then `seed` is a parameter like others
    rows = unequal(combined(sources(spec.sweep)), {**spec.params, **({} if own else {SEED: spec.seed})})
    return tuple(Point(params=row) if own else pointed(row) for row in rows)


def size(sweep: Sweep) -> int:
    """Return how many points a sweep asks for, before equal ones are left out."""
    grid = [len(values) for values in sweep.grid.values()]
    others = [len(next(iter(sweep.zip.values()), ())), len(sweep.list), len(sweep.file.rows if sweep.file else ())]
    return prod([*grid, *filter(None, others), sweep.random.count if sweep.random else 1])


def with_point(spec: Spec, point: Point) -> Spec:
    """Return the spec of one point alone, without the sweep."""
    seed = spec.seed if point.seed is None else point.seed
    return replace(spec, params={**spec.params, **point.params}, seed=seed, sweep=None)


def refuse_overrides(spec: Spec, overrides: Iterable[str]) -> None:
    """Raise UsageError for a parameter that is given a value while the sweep sets it, too."""
    if clash := sorted(names(spec.sweep).intersection(overrides) if spec.sweep else ()):
        hint = "leave it out here, or take it out of `sweep:`; one point alone may be changed"
        raise UsageError.of(Problem(message=f"-p {name}: the sweep sets `{name}`", hint=hint) for name in clash)


def names(sweep: Sweep) -> set[str]:
    """Return the parameters that a sweep sets."""
    drawn = sweep.random.draws if sweep.random else {}
    return {*sweep.grid, *sweep.zip, *drawn, *itertools.chain(*sweep.list, *(sweep.file.rows if sweep.file else ()))}


def sources(sweep: Sweep) -> list[Sequence[Row]]:
    """Return the rows of each source that is there."""
    grid = [dict(zip(sweep.grid, values, strict=True)) for values in itertools.product(*sweep.grid.values())]
    pairs = [dict(zip(sweep.zip, values, strict=True)) for values in zip(*sweep.zip.values(), strict=True)]
    drawn = draw(sweep.random) if sweep.random else []
    filed = sweep.file.rows if sweep.file else ()
    return [rows for rows in (grid if sweep.grid else [], pairs, sweep.list, drawn, filed) if rows]


def combined(rows: Sequence[Sequence[Row]]) -> Iterator[Row]:
    """Yield every combination of a row of each source."""
    for parts in itertools.product(*rows):
        yield dict(itertools.chain.from_iterable(part.items() for part in parts))


def unequal(rows: Iterable[Row], base: Row) -> Iterator[Row]:
    """Yield the rows that differ, counting what they don't set as `base` has it."""
    seen: set[tuple[tuple[str, type, Param], ...]] = set()
    for row in rows:
        key = identity({**base, **row})
        if key not in seen:
            seen.add(key)
            yield row


def identity(params: Row) -> tuple[tuple[str, type, Param], ...]:
    """Return what tells sets of parameters apart: 1, 1.0 and true are three values, as a program sees them."""
    return tuple((name, type(params[name]), params[name]) for name in sorted(params))


def pointed(row: Row) -> Point:
    """Return the point of a row whose `seed` is the run's."""
    if SEED not in row:
        return Point(params=row)
    seed = row[SEED]
    assert isinstance(seed, int)  # the loader has looked
    return Point(params={name: value for name, value in row.items() if name != SEED}, seed=seed)
