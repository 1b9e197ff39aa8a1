"""Sweeps: every source's points, their order, and numbers that are the same everywhere."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import SpecError, UsageError
from launcher.spec import load
from launcher.spec.model import CodeSpec, Distribution, ImageSpec, PointsFile, RandomPoints, Spec, Sweep
from launcher.sweep import Point, expand, refuse_overrides, size, with_point
from launcher.sweep.drawing import draw

ROOT = Path("/x")
PARAMS = {"lr": 0.5, "hidden": 8, "name": None}


def spec(sweep: Sweep | None = None, **more: Any) -> Spec:
    values = {"params": PARAMS, "run": "x", **more}
    file = ROOT / "experiment.yaml"
    return Spec(name="a", image=ImageSpec(), code=CodeSpec(root=ROOT), file=file, sweep=sweep, **values)


def params(sweep: Sweep, **more: Any) -> list[dict[str, Any]]:
    return [dict(point.params) for point in expand(spec(sweep, **more))]


def written(folder: Path, sweep: str, params: str = "{lr: 0.5, hidden: 8, name: null}") -> Path:
    path = folder / "experiment.yaml"
    path.write_text(f"name: a\nrun: x\nparams: {params}\nsweep:\n{sweep}\n")
    return path


def test_without_a_sweep_there_is_one_point() -> None:
    assert expand(spec()) == (Point(),)
    assert with_point(spec(), Point()) == spec()


def test_a_grid_is_every_combination_in_order() -> None:
    found = params(Sweep(grid={"lr": (1, 2), "hidden": (3, 4, 5)}))
    assert found == [{"lr": a, "hidden": b} for a in (1, 2) for b in (3, 4, 5)]


def test_lists_that_are_zipped_go_together() -> None:
    assert params(Sweep(zip={"lr": (1, 2), "hidden": (3, 4)})) == [{"lr": 1, "hidden": 3}, {"lr": 2, "hidden": 4}]


def test_sources_are_multiplied_grid_first() -> None:
    sweep = Sweep(grid={"lr": (1, 2)}, zip={"hidden": (3, 4)}, list=({"name": "a"}, {"name": "b"}))
    assert [tuple(one.values()) for one in params(sweep)] == list(itertools.product((1, 2), (3, 4), "ab"))
    file = PointsFile(path=ROOT / "p.csv", rows=({"name": "x"}, {"name": "y"}))
    sweep = Sweep(file=file, random=RandomPoints(count=3, draws={"lr": Distribution(kind="normal", numbers=(0, 1))}))
    found = params(sweep)
    assert [one["name"] for one in found] == ["x", "y"] * 3
    assert found[0]["lr"] == found[1]["lr"] != found[2]["lr"]


def test_values_of_different_kinds_are_different_points() -> None:
    assert len(params(Sweep(grid={"lr": (1, 1.0, True, "1", None, "")}))) == 6


def test_points_that_are_equal_run_once() -> None:
    two = RandomPoints(count=50, draws={"lr": Distribution(kind="choice", choices=(1, 2))})
    assert [one["lr"] for one in params(Sweep(random=two))] in ([1, 2], [2, 1])
    assert size(Sweep(random=two)) == 50
    rows = ({"lr": 0.5}, {"hidden": 8}, {"lr": 0.5, "hidden": 8, "name": None})  # all of them are `params`
    assert params(Sweep(list=rows)) == [{"lr": 0.5}]


def test_seed_is_the_runs_unless_it_is_a_parameter() -> None:
    sweep = Sweep(grid={"seed": (3, 4)})
    assert expand(spec(sweep)) == (Point(seed=3), Point(seed=4))
    assert with_point(spec(sweep), Point(params={"lr": 1}, seed=3)) == spec(params={**PARAMS, "lr": 1}, seed=3)
    own = spec(sweep, params={"seed": 1})
    assert expand(own) == (Point(params={"seed": 3}), Point(params={"seed": 4}))
    assert len(expand(spec(Sweep(list=({"seed": 5}, {"lr": 0.5})), seed=5))) == 1


@pytest.mark.parametrize("case", range(30))
def test_any_sweep_has_the_size_and_the_names_that_it_says(case: int) -> None:
    chance = random.Random(case)
    names = [f"p{i}" for i in range(8)]
    chance.shuffle(names)
    values = {name: tuple(range(chance.randint(1, 4))) for name in names[:3]}
    length = chance.randint(1, 5)
    sweep = Sweep(
        grid=values if chance.random() < 0.7 else {},
        zip={name: tuple(range(length)) for name in names[3:5]} if chance.random() < 0.7 else {},
        list=tuple({names[5]: i} for i in range(chance.randint(0, 3))),
        file=PointsFile(path=ROOT, rows=tuple({names[6]: i, names[7]: -i} for i in range(length))),
    )
    found = params(sweep, params=dict.fromkeys(names, "default"))
    assert len(found) == size(sweep)
    assert len({json.dumps(one, sort_keys=True) for one in found}) == len(found)
    assert len({frozenset(one) for one in found}) == 1


def drawn(count: int = 2000, seed: int = 1, **more: Any) -> list[Any]:
    return [row["x"] for row in draw(RandomPoints(count=count, seed=seed, draws={"x": Distribution(**more)}))]


def test_the_numbers_never_change() -> None:
    """Written down: whoever changes these makes other points of everybody's sweeps."""
    golden: dict[str, tuple[Mapping[str, Any], list[Any]]] = {
        "uniform": ({"numbers": (0, 1)}, GOLDEN[0]),
        "log_uniform": ({"numbers": (1e-4, 1e-1)}, GOLDEN[1]),
        "normal": ({"numbers": (0, 1)}, GOLDEN[2]),
        "log_normal": ({"numbers": (0, 0.5)}, GOLDEN[3]),
        "int_uniform": ({"numbers": (1, 100)}, GOLDEN[4]),
        "int_log_uniform": ({"numbers": (1, 1000)}, GOLDEN[5]),
        "choice": ({"choices": ("a", "b", "c"), "weights": (1, 1, 2)}, GOLDEN[6]),
    }
    for kind, (more, expected) in golden.items():
        assert drawn(4, seed=7, kind=kind, **more) == expected, kind


GOLDEN: list[list[Any]] = [
    [0.12383025419660966, 0.1287231350102345, 0.5267528474804849, 0.21529732824804668],
    [0.0002352289459841259, 0.0002433152922730688, 0.003804157965235659, 0.0004424783079853184],
    [-0.3522175868911356, -1.2271981450366387, -2.516404777290278, 1.762027889997871],
    [0.8385267521599187, 0.5413988247754257, 0.2841643847741417, 2.4133454658406976],
    [13, 13, 53, 22],
    [1, 1, 27, 3],
    ["a", "a", "c", "a"],
]


def test_more_points_or_parameters_keep_those_that_were_there() -> None:
    one = Distribution(kind="uniform", numbers=(0, 1))
    few = draw(RandomPoints(count=5, seed=3, draws={"x": one}))
    many = draw(RandomPoints(count=50, seed=3, draws={"y": one, "x": one}))
    assert [row["x"] for row in many[:5]] == [row["x"] for row in few]
    assert many[0]["x"] != many[0]["y"]
    assert draw(RandomPoints(count=5, seed=4, draws={"x": one})) != few


def test_the_context_of_the_caller_does_not_count() -> None:
    import decimal

    with decimal.localcontext() as context:
        context.prec = 3
        rough = drawn(20, kind="normal", numbers=(0, 1))
    assert rough == drawn(20, kind="normal", numbers=(0, 1))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("uniform", -2, 3), ("log_uniform", 1e-4, 1e-1), ("int_uniform", -3, 3), ("int_log_uniform", 1, 9)],
)
def test_draws_stay_within_their_bounds_and_spread(kind: str, low: float, high: float) -> None:
    found = drawn(kind=kind, numbers=(low, high))
    assert all(low <= one <= high for one in found)
    middle = math.sqrt(low * high) if "log" in kind else (low + high) / 2
    assert 0.4 < sum(one < middle for one in found) / len(found) < 0.6
    if kind.startswith("int"):
        assert set(found) == set(range(int(low), int(high) + 1))
        assert {type(one) for one in found} == {int}


def test_normal_numbers_have_their_mean_and_deviation() -> None:
    found = drawn(4000, kind="normal", numbers=(5, 2))
    assert statistics.fmean(found) == pytest.approx(5, abs=0.15)
    assert statistics.stdev(found) == pytest.approx(2, abs=0.15)
    for bound, share in ((1, 0.0228), (3, 0.1587), (5, 0.5), (6, 0.6915), (9, 0.9772)):
        assert sum(one < bound for one in found) / len(found) == pytest.approx(share, abs=0.03)
    logs = [math.log(one) for one in drawn(4000, kind="log_normal", numbers=(-3, 0.5))]
    assert (statistics.fmean(logs), statistics.stdev(logs)) == (
        pytest.approx(-3, abs=0.05),
        pytest.approx(0.5, abs=0.05),
    )


@pytest.mark.parametrize("kind", ["uniform", "log_uniform"])
def test_steps_are_counted_from_the_lower_bound(kind: str) -> None:
    assert set(drawn(kind=kind, numbers=(0.1, 0.75), step=0.1)) == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}


def test_steps_of_other_distributions() -> None:
    assert set(drawn(kind="int_uniform", numbers=(16, 64), step=16)) == {16, 32, 48, 64}
    assert {one % 0.5 for one in drawn(kind="normal", numbers=(0, 3), step=0.5)} == {0.0}
    assert set(drawn(kind="log_normal", numbers=(0, 0.1), step=1)) == {1.0}


def test_weights_count() -> None:
    found = drawn(kind="choice", choices=(None, "b", "c"), weights=(0, 1, 3))
    assert set(found) == {"b", "c"}
    assert found.count("c") / len(found) == pytest.approx(0.75, abs=0.04)
    assert len(set(drawn(kind="choice", choices=(1, 1.5, "x")))) == 3


def test_what_the_sweep_sets_is_not_overridden() -> None:
    sweep = spec(Sweep(grid={"lr": (1, 2)}))
    refuse_overrides(sweep, ["hidden"])
    with pytest.raises(UsageError, match="the sweep sets `lr`"):
        refuse_overrides(sweep, ["hidden", "lr"])


FILES = {
    "points.csv": 'lr, name\r\n1e-3,adam\r\n2,\'3\'\r\n.5,"a,""b"""\r\n0.25,null\r\n\r\n',
    "points.jsonl": '{"lr": 0.001, "name": "adam"}\n\n{"lr": 2, "name": "3"}\n{"lr": 0.5, "name": "a,\\"b\\""}\n'
    '{"name": null, "lr": 0.25}\n',
    "points.json": '[{"lr": 1e-3, "name": "adam"}, {"lr": 2, "name": "3"}, {"lr": 0.5, "name": "a,\\"b\\""},'
    ' {"lr": 0.25, "name": null}]',
    "points.yaml": "- {lr: 1e-3, name: adam}\n- lr: 2\n  name: '3'\n- {lr: .5, name: 'a,\"b\"'}\n"
    "- {lr: 0.25, name: }\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_points_are_typed_as_params_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("\ufeff" + FILES[name], newline="")
    points = expand(load(written(tmp_path, f"  file: {name}")))
    assert [(point.params["lr"], point.params["name"]) for point in points] == [
        (0.001, "adam"), (2, "3"), (0.5, 'a,"b"'), (0.25, None)
    ]  # fmt: skip
    assert type(points[1].params["lr"]) is int


def test_an_empty_list_of_points_is_no_run_of_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"sweep\.list: expected a list of points, not an empty list"):
        load(written(tmp_path, "  list: []"))
    assert len(expand(load(written(tmp_path, "  list:")))) == 1, "commented out"


BAD_FILES = {
    "wrong.txt": ("x", "expected a file of points"),
    "gone.csv": (None, "is not there"),
    "empty.csv": ("", "holds no point"),
    "heads.csv": ("lr\n", "holds no point"),
    "twice.csv": ("lr,lr\n1,2\n", ":1: the column `lr` is there twice"),
    "unknown.csv": ("lrr\n1\n", ":2: `lrr` is no parameter\n  hint: did you mean lr?"),
    "quote.csv": ('lr\n"1\n', "not CSV"),
    "latin.csv": (b"lr\n\xe9\n", "no UTF-8 at its byte 3"),
    "nul.csv": ("lr\na\0\n", ":2: "),
    "inf.csv": ("lr\n.inf\n", ":2: lr: inf is not a finite number"),
    "seed.csv": ("seed\n-1\n", ":2: expected whole numbers from 0"),
    "line.jsonl": ('{"lr": 1}\n{"lr": \n', ":2: not JSON"),
    "nested.jsonl": ('{"lr": [1]}\n', ":1: lr: expected text, a number, true, false or null, not a list"),
    "twice.jsonl": ('{"lr": 1, "lr": 2}\n', ":1: a name is there twice"),
    "number.jsonl": ("3\n", ":1: expected a point"),
    "nan.json": ('[{"lr": NaN}]', "[0]: lr: nan is not a finite number"),
    "surrogate.json": ('[{"name": "\\ud800"}]', "half a surrogate pair"),
    "same.json": ('[{"lr": 1}, {"lr": 0.5}, {"lr": 0.5, "hidden": 8}]', "[2]: this point is the same as that of [1]"),
    "object.json": ("{}", "expected a list of points"),
    "tag.yaml": ("- {lr: !x 1}\n", ":1:8: [0].lr: the tag"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_of_points_are_told_with_their_lines(name: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError) as caught:
        load(written(tmp_path, f"  file: {name}"))
    assert message in str(caught.value)


def test_a_file_of_nothing_but_mistakes_is_told_in_short(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lr\n" + "yes\n" * 500)
    with pytest.raises(SpecError) as caught:
        load(written(tmp_path, "  file: p.csv"))
    assert len(caught.value.problems) < 50
    assert "and 480 more problems in this file" in str(caught.value)


def test_too_many_points_are_refused_by_their_number(tmp_path: Path) -> None:
    values = list(range(101))
    with pytest.raises(SpecError, match="the sweep has 1,030,301 points, and at most 1,000,000"):
        load(written(tmp_path, f"  grid: {{lr: {values}, hidden: {values}, name: {values}}}"))


def test_several_points_on_one_allocation_are_of_one_node(tmp_path: Path) -> None:
    path = written(tmp_path, "  grid: {lr: [1, 2]}\n  pack: 2\nresources: {nodes: 2}")
    with pytest.raises(SpecError, match=r"`sweep.pack` is for runs of one node"):
        load(path)


def test_a_sweep_that_is_commented_out_is_none(tmp_path: Path) -> None:
    assert load(written(tmp_path, "  grid:\n    # lr: [1, 2]\n  max_parallel: 3")).sweep is None
    assert load(written(tmp_path, "")).sweep is None


def test_the_lock_fits_whatever_the_sweep(tmp_path: Path) -> None:
    from launcher.lock import load as load_lock
    from launcher.lock.check import problems

    example = Path(__file__).parents[1] / "examples" / "digits"
    lock = load_lock(example / "sweep.lock")
    assert (example / "sweep.lock").read_bytes() == (example / "experiment.lock").read_bytes()
    assert not problems(lock, load(example / "sweep.yaml"))
    assert len(expand(load(example / "sweep.yaml"))) == 12


def test_decimal_arithmetic_in_pure_python_draws_the_same(tmp_path: Path) -> None:
    """The reference implementation stands in for other machines: it shares no code with the C library."""
    script = tmp_path / "draw.py"
    script.write_text(
        "import sys, _pydecimal\n"
        "sys.modules['decimal'] = _pydecimal\n"
        "from tests.test_sweep import drawn\n"
        "print([drawn(40, kind=kind, numbers=(1, 2)) for kind in ('uniform', 'log_uniform', 'normal', 'log_normal')])\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    here = [drawn(40, kind=kind, numbers=(1, 2)) for kind in ("uniform", "log_uniform", "normal", "log_normal")]
    assert done.stdout.strip() == str(here)
