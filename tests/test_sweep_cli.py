"""`launcher points`, `launcher run --point`, and what of a sweep's folder is code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher import spec as specs
from launcher.cache import Cache
from launcher.cli import invoke
from launcher.cli.inputs import code_of
from launcher.cli.run import one_run
from launcher.code import snapshot
from launcher.errors import UsageError
from launcher.progress import SILENT
from launcher.sweep import expand
from tests.digits import sweep_of

SPEC = """\
name: a
run: python train.py {lr} {size}
params: {lr: 0.1, size: 8}
sweep:
  grid: {seed: [0, 1], lr: [0.30000000000000004, 1]}
  file: points.csv
retries: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sweep.yaml").write_text(SPEC)
    (tmp_path / "sweep.lock").write_text("")
    (tmp_path / "points.csv").write_text("size\n16\n32\n")
    (tmp_path / "train.py").write_text("")
    return tmp_path


def test_points_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["points", str(folder / "sweep.yaml"), "--limit", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "POINT  SEED  lr   size",
        "0      0     0.3  16",
        "1      0     0.3  32",
        "2      0     1    16",
        "8 points; 5 more: --limit 0 shows all",
    ]


def test_points_as_json_are_exact_and_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["points", str(folder / "sweep.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["count"], len(told["points"]), told["retries"], told["pack"]) == (8, 8, 1, 1)
    assert told["points"][5] == {"point": 5, "params": {"lr": 0.30000000000000004, "size": 32}, "seed": 1}


def test_a_spec_without_a_sweep_has_one_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment.yaml").write_text("name: a\nrun: x\nparams: {lr: 1}\n")
    assert invoke(["points", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 point"


def test_what_came_out_equal_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "name: a\nrun: x\nparams: {n: 1}\nsweep: {random: {count: 9, n: {choice: [2]}}}\n"
    (tmp_path / "experiment.yaml").write_text(text)
    assert invoke(["points", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("1 point (8 that came out equal to others are left out)\n")


def test_run_takes_one_point_of_a_sweep(folder: Path) -> None:
    path = folder / "sweep.yaml"
    loaded = specs.load(path)
    assert one_run(loaded, 5, path).params == {"lr": 0.30000000000000004, "size": 32}
    assert (one_run(loaded, 5, path).seed, one_run(loaded, 5, path).sweep) == (1, None)
    with pytest.raises(UsageError, match=r"there is no point 8: the sweep has 8"):
        one_run(loaded, 8, path)
    with pytest.raises(UsageError, match="has no sweep"):
        one_run(one_run(loaded, 0, path), 0, path)


def test_run_refuses_a_sweep_before_it_locks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", str(folder / "sweep.yaml")]) == 2
    told = capsys.readouterr().err
    assert "is a sweep of 8 points" in told
    assert "launcher submit" in told and "--point 0" in told
    assert (folder / "sweep.lock").read_text() == ""


def test_one_more_point_is_no_other_code(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"))

    def code() -> str:
        return snapshot(code_of(specs.load(folder / "sweep.yaml"), SILENT), cache).digest

    first = code()
    (folder / "points.csv").write_text("size\n16\n32\n64\n")
    (folder / "sweep.yaml").write_text(SPEC + "# another line\n")
    (folder / "sweep.lock").write_text("another")
    assert code() == first
    (folder / "train.py").write_text("print()")
    assert code() != first
    taken = code_of(specs.load(folder / "sweep.yaml"), SILENT)
    assert set(taken.exclude) == {"/sweep.yaml", "/sweep.lock", "/points.csv"}


def test_code_that_is_insisted_on_stays(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "code: {include: [points.csv]}\n")
    assert set(code_of(specs.load(folder / "sweep.yaml"), SILENT).exclude) == {"/sweep.yaml", "/sweep.lock"}
    (folder / "inner").mkdir()
    (folder / "sweep.yaml").write_text(SPEC + "code: {root: inner}\n")
    assert code_of(specs.load(folder / "sweep.yaml"), SILENT).exclude == ()


def test_the_example_makes_as_many_points_as_a_test_wants(tmp_path: Path) -> None:
    loaded = specs.load(sweep_of(200, tmp_path / "digits", epochs=2, more="retries: 1\n"))
    points = expand(loaded)
    assert len({(point.params["lr"], point.params["hidden"], point.seed) for point in points}) == 200
    assert (loaded.params["epochs"], loaded.retries, loaded.outputs) == (2, 1, ("model.npz", "confusion.csv"))
