"""The examples' own promises, and the tools that hold the pages to what they show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import spec
from launcher.cli.curve import draw
from launcher.lock import load
from launcher.lock.check import problems
from tests import console

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["digits", "torch", "resume"])
def test_the_specs_are_good(name: str) -> None:
    assert spec.load(EXAMPLES / name / "experiment.yaml").image.base == "debian:bookworm"


@pytest.mark.parametrize("name", ["digits", "torch"])
def test_the_scripts_know_nothing_of_launcher(name: str) -> None:
    assert "launcher" not in (EXAMPLES / name / "train.py").read_text().lower()


def test_a_line_that_was_cut_off_is_the_line_of_one_that_was_not(tmp_path: Path) -> None:
    def fit(folder: str, steps: int) -> str:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        words = [sys.executable, "-B", str(EXAMPLES / "resume" / "train.py"), "--steps", str(steps)]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(EXAMPLES.parent), "LAUNCHER_SEED": "7"}
        done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    whole = fit("whole", 60)
    assert fit("cut", 50) != whole
    assert fit("cut", 60) == whole
    assert (tmp_path / "cut" / "line.json").read_text() == whole


def test_the_committed_lock_fits_and_names_its_image() -> None:
    lock = load(EXAMPLES / "digits" / "experiment.lock")
    assert not problems(lock, spec.load(EXAMPLES / "digits" / "experiment.yaml"))
    assert lock.image and len(lock.image.layers) < 40
    assert sum(artifact.size for artifact in lock.artifacts) < 110e6, "demo and set-up together stay below 200 MB"


def test_commands_and_what_they_print_are_read_from_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ cat <<E\n> a\n>\n> b\n> E\na\n\nb\n$ true\n```\n\n```console\n$ echo 12 3\n1... 3\n```\n"
    )
    found = list(console.commands(page))
    assert [command.text for command in found] == ["cat <<E\na\n\nb\nE", "true", "echo 12 3"]
    printed = console.run(found, tmp_path, {})
    assert printed == ["a\n\nb\n", "", "12 3\n"]
    assert not console.differences(found, printed)
    assert console.differences(found, ["a\n\nb\n", "", "2 3\n"])


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    found = [console.Command(text="true", expected=""), console.Command(text="echo x; false", expected="")]
    with pytest.raises(AssertionError, match=r"(?s)echo x; false.*x"):
        console.run(found, tmp_path, {})


def test_a_curve_goes_from_corner_to_corner() -> None:
    lines = draw([(0, 0.0), (10, 1.0)], width=8, height=4, braille=False)
    assert lines == [
        "1 |       **",
        "  |     **",
        "  |   **",
        "0 | **",
        "  +---------",
        "    0     10",
    ]


def test_a_curve_of_one_point_or_a_constant_is_drawn() -> None:
    assert draw([(3, 5.0)], width=3, height=3)[:3] == ["  |", "5 |  ⠐", "  |"]
    assert draw([(1, 2.0), (2, 2.0)], width=4, height=1, braille=False)[0] == "2 | ****"
    assert draw([]) == []
