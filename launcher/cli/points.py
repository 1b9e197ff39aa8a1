"""`launcher points`: the points that a sweep makes, before anything is locked, built or submitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli.output import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.spec.model import Param, Spec
    from launcher.sweep import Point

SHOWN = 20


@click.command("points")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option("--limit", type=click.IntRange(0), help=f"Show so many (default: {SHOWN}, with --json all); 0: all.")
@json_option
def points(spec: Path | None, limit: int | None, as_json: bool) -> None:
    """Show the points that the sweep of SPEC (experiment.yaml) makes, in their order.

    `launcher run SPEC --point N` runs one of them here.
    """
    from launcher import spec as specs
    from launcher.cli.output import print_json
    from launcher.cli.pipeline import given
    from launcher.sweep import expand

    loaded = specs.load(given(spec))
    found = expand(loaded)
    if as_json:
        print_json(told(loaded, found, found[: limit or None]))
    else:
        report(loaded, found, SHOWN if limit is None else limit)


def told(spec: Spec, found: Sequence[Point], shown: Sequence[Point]) -> dict[str, object]:
    """Return the sweep in JSON's words."""
    sweep = spec.sweep
    return {
        "name": spec.name,
        "count": len(found),
        "max_parallel": sweep.max_parallel if sweep else None,
        "pack": sweep.pack if sweep else 1,
        "retries": spec.retries,
        "points": [{"point": i, "params": one.params, "seed": seed_of(spec, one)} for i, one in enumerate(shown)],
    }


def seed_of(spec: Spec, point: Point) -> int:
    return spec.seed if point.seed is None else point.seed


def report(spec: Spec, found: Sequence[Point], limit: int) -> None:
    """Print a table of points, and how many there are."""
    from launcher.cli.listing import print_table
    from launcher.cli.output import print_text

    shown = found[: limit or None]
    heads, rows = table(spec, found, shown)
    print_table(heads, rows)
    left = f"; {len(found) - len(shown)} more: --limit 0 shows all" if len(shown) < len(found) else ""
    print_text(counted(spec, len(found)) + left)


def table(spec: Spec, found: Sequence[Point], shown: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows: each parameter that the sweep sets, in the order of `params`."""
    names = [name for name in spec.params if any(name in point.params for point in found)]
    seeds = any(point.seed is not None for point in found)
    heads = ["POINT", *(["SEED"] if seeds else []), *names]
    rows = [
        [
            str(i),
            *([str(seed_of(spec, one))] if seeds else []),
            *(cell({**spec.params, **one.params}[n]) for n in names),
        ]
        for i, one in enumerate(shown)
    ]
    return heads, rows


def cell(value: Param) -> str:
    """Return a value as the spec would have it, numbers in at most six digits."""
    from launcher.cli.listing import number
    from launcher.spec.command import text

    return "null" if value is None else number(value) if isinstance(value, float) else text(value)


def counted(spec: Spec, number: int) -> str:
    """Say how many points there are, and that some were drawn twice."""
    from launcher.sweep import size

    said = f"{number} point{'' if number == 1 else 's'}"
    twice = (size(spec.sweep) if spec.sweep else 1) - number
    return f"{said} ({twice} that came out equal to others are left out)" if twice else said
