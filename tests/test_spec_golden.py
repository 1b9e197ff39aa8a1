"""Every bad spec in tests/golden/spec is refused with exactly the message beside it.

UPDATE_GOLDEN=1 writes the messages anew; read the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec import load

GOLDEN = Path(__file__).parent / "golden" / "spec"
BAD = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("name", BAD)
def test_bad_spec_is_told_in_full(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(SpecError) as caught:
        load(f"{name}.yaml")
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == expected.read_text()


def test_there_are_many_and_none_is_left_over() -> None:
    assert len(BAD) >= 30
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == BAD


@pytest.mark.parametrize("name", BAD)
def test_every_problem_has_a_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(SpecError) as caught:
        load(f"{name}.yaml")
    for problem in caught.value.problems:
        assert problem.where is not None
        assert problem.where.file in (f"{name}.yaml", "points/bad.csv")
