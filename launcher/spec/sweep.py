"""The sweep as a whole: what holds between its sources and the parameters, and the model that is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from launcher.errors import Where
from launcher.spec.distributions import Drawn
from launcher.spec.model import Param, PointsFile, Sweep
from launcher.spec.points import Column, Row, identity
from launcher.spec.reading import Reading, nearest

MOST = 1_000_000
TOLD = 20  # so many problems of one kind are told
LARGEST_SEED = 2**32 - 1
SEED = "seed"
SOURCES = ("grid", "zip", "list", "random", "file")


def check_sweep(fields: Mapping[str, Any], params: Sequence[str], reading: Reading) -> None:
    """Tell of unknown and doubled names, bad seeds, equal points, and too many of them. `params` are known names."""
    sweep = fields.get("sweep") or {}
    check_names(sweep, params, reading)
    if SEED not in params:
        check_seeds(sweep, reading)
    base = {**(fields.get("params") or {}), SEED: fields.get("seed", 0)}
    for source in ("list", "file"):
        check_twice(rows_of(sweep.get(source)), base, reading)
    check_size(sweep, fields.get("resources") or {}, reading)


def check_names(sweep: Mapping[str, Any], params: Sequence[str], reading: Reading) -> None:
    """Tell of names that are no parameters, and of those that two sources set."""
    seen: dict[str, tuple[str, Where]] = {}
    for source, name, where in named(sweep):
        if name not in params and name != SEED:
            reading.add(where, f"`{name}` is no parameter", unknown_hint(name, params))
        elif name in seen:
            other, first = seen[name]
            reading.add(where, f"`{name}` is set by `{other}` too, in line {first.line}", "leave it in one of them")
        seen.setdefault(name, (source, where))


def unknown_hint(name: str, params: Sequence[str]) -> str:
    near = nearest(name, params)
    return (
        f"did you mean {near}?" if near else f"add it to `params`, with the value that a single run has ({name}: ...)"
    )


def check_size(sweep: Mapping[str, Any], resources: Mapping[str, Any], reading: Reading) -> None:
    """Tell of too many points, and of points that can't be packed."""
    where = next((where for _, _, where in named(sweep)), None)
    if where and (number := size(sweep)) > MOST:
        message = f"the sweep has {number:,} points, and at most {MOST:,} can be planned"
        reading.add(where, message, "`sweep.random` draws some of them")
    if where and (sweep.get("pack") or 1) > 1 and (resources.get("nodes") or 1) > 1:
        reading.add(where, "`sweep.pack` is for runs of one node", "leave it out, or `resources.nodes`")


def named(sweep: Mapping[str, Any]) -> Iterator[tuple[str, str, Where]]:
    """Yield each source, the names in it, and where each stands first."""
    for source in SOURCES:
        if sweep.get(source):
            yield from ((source, name, where) for name, where in places(sweep[source]))


def rows_of(source: Any) -> tuple[Row, ...]:
    """Return the rows of a list, or of a file."""
    return source if isinstance(source, tuple) else source.rows if source else ()


def places(source: Any) -> Iterable[tuple[str, Where]]:
    """Return the names of a source, each with the first place where it stands."""
    if isinstance(source, Drawn):
        return source.places.items()
    if isinstance(source, tuple) and isinstance(source[0], Column):
        return ((column.name, column.where) for column in source)
    found: dict[str, Where] = {}
    for row in rows_of(source):
        if row.values.keys() - found.keys():
            found = {**dict.fromkeys(row.values, row.where), **row.places, **found}
    return found.items()


def check_seeds(sweep: Mapping[str, Any], reading: Reading) -> None:
    """Tell of seeds that are none, where `seed` means the run's."""
    columns = [column for source in ("grid", "zip") for column in sweep.get(source) or () if column.name == SEED]
    found = [(value, column.where) for column in columns for value in column.values]
    rows = [row for source in ("list", "file") for row in rows_of(sweep.get(source)) if SEED in row.values]
    found += [(row.values[SEED], row.places.get(SEED, row.where)) for row in rows]
    bad = [(value, where) for value, where in found if type(value) is not int or not 0 <= value <= LARGEST_SEED]
    for value, where in bad[:TOLD]:
        reading.add(where, f"expected whole numbers from 0 to {LARGEST_SEED} as seeds, not {value!r}")


def check_twice(rows: Iterable[Row], params: Mapping[str, Param], reading: Reading) -> None:
    """Tell of points that are written twice, counting what they leave out as `params` has it."""
    seen: dict[frozenset[tuple[str, tuple[type, Param]]], Where] = {}
    told = 0
    for row in rows:
        key = frozenset((name, identity(value)) for name, value in {**params, **row.values}.items())
        first = seen.setdefault(key, row.where)
        if first is not row.where and (told := told + 1) <= TOLD:
            place = f"line {first.line}" if first.line else first.key
            reading.add(
                row.where, f"this point is the same as that of {place}", "keep one of them: equal points run once"
            )


def size(sweep: Mapping[str, Any]) -> int:
    """Return how many points the sources make."""
    grid = [len(column.values) for column in sweep.get("grid") or ()]
    pairs = [len(column.values) for column in sweep.get("zip") or ()][:1]
    rows = [len(rows_of(sweep.get(source))) or 1 for source in ("list", "file")]
    random = sweep.get("random")
    return prod([*grid, *pairs, *rows, random.points.count if random else 1])


def assembled(fields: Mapping[str, Any]) -> Sweep | None:
    """Make the model of what was read; a sweep without any source is none."""
    if not any(fields.get(source) for source in SOURCES):
        return None
    random, file = fields.get("random"), fields.get("file")
    return Sweep(
        grid={column.name: column.values for column in fields.get("grid") or ()},
        zip={column.name: column.values for column in fields.get("zip") or ()},
        list=tuple(row.values for row in fields.get("list") or ()),
        random=random.points if random else None,
        file=PointsFile(path=file.path, rows=tuple(row.values for row in file.rows)) if file else None,
        max_parallel=fields.get("max_parallel"),
        pack=fields.get("pack", 1),
    )
