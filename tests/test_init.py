"""`launcher init` guesses what it can, and what it writes loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli import invoke
from launcher.spec import load
from launcher.spec.guess import guess
from launcher.spec.guess.project import SUITES
from launcher.spec.guess.writing import scalar
from launcher.spec.loader import loads
from launcher.spec.model import DataSpec, Param, Pip, Spec
from launcher.spec.nodes import compose, plain

TRAIN = """
import argparse, os
import numpy as np
import torch.nn as nn
import yaml
from PIL import Image
from sklearn.svm import SVC
import cv2
from models import net
from . import sibling
try:
    import wandb
except ImportError:
    wandb = None
if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("-l", "--lr", type=float, default=1e-5)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--batch_size", type=int, default=64)
    p.add_argument("--data-dir", default="./data/")
    p.add_argument("--output-dir", default="out")
    p.add_argument("--ckpt-dir", default="ckpt")
    p.add_argument("--note", default='it\\'s "so": {lr} # Grüße 🙂 \\x7f\\n')
    p.add_argument("--no", default="no")
    p.add_argument("--resume")
    p.add_argument("--amp", action="store_true")
    p.add_argument("--layers", nargs="+", default=[1])
    p.add_argument("--threads", default=os.cpu_count())
"""


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def guessed(folder: Path) -> Spec:
    return loads(guess(folder), folder / "experiment.yaml")


def test_a_script_with_options_and_imports(tmp_path: Path) -> None:
    folder = make(tmp_path / "My Digits", {"train.py": TRAIN, "models/net.py": "import einops", "data/x.csv": "1"})
    spec = guessed(folder)
    assert spec.name == "my-digits"
    requirements = ("einops", "numpy", "opencv-python-headless", "pillow", "PyYAML", "scikit-learn", "torch")
    assert spec.image.pip == Pip(requirements=requirements)
    assert spec.params == {
        "lr": 1e-5,
        "batch-size": 32,
        "note": 'it\'s "so": {lr} # Grüße 🙂 \x7f\n',
        "no": "no",
    }
    assert spec.run == (
        'python train.py --data-dir /data/data --output-dir "$LAUNCHER_OUTPUT_DIR" '
        '--ckpt-dir "$LAUNCHER_CHECKPOINT_DIR" --lr {lr} --batch-size {batch-size} --note {note} --no {no}'
    )
    assert spec.data == (DataSpec(name="data", path=folder / "data"),)
    assert spec.code.exclude == ("data/",)
    assert "--resume, --threads" in guess(folder)


def test_an_empty_folder(tmp_path: Path) -> None:
    spec = guessed(tmp_path)
    assert (spec.run, spec.params, spec.image.pip, spec.data) == ("python train.py", {}, Pip(), ())


@pytest.mark.parametrize(
    ("files", "python"),
    [
        ({}, "3.11"),
        ({".python-version": "3.13.1\n"}, "3.13"),
        ({".python-version": "cpython-3.11\n"}, "3.11"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.12'\n"}, "3.13"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.9,<3.13'\n"}, "3.11"),
        ({"pyproject.toml": "[project]\nrequires-python = 'not at all'\n"}, "3.11"),
        ({"pyproject.toml": "no toml"}, "3.11"),
    ],
)
def test_python_and_its_suite(tmp_path: Path, files: dict[str, str], python: str) -> None:
    spec = guessed(make(tmp_path, files))
    assert (spec.image.python, spec.image.base) == (python, f"debian:{SUITES[python]}")


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        ({".python-version": "3.12"}, "3.12"),
        ({"pyproject.toml": "[project]\nrequires-python = '==3.10.*'\n"}, "==3.10.*"),
    ],
)
def test_a_python_that_no_suite_has_is_told(tmp_path: Path, files: dict[str, str], asked: str) -> None:
    text = guess(make(tmp_path, files))
    assert f"asks for Python {asked}, which no known Debian suite has" in text


def test_a_requirements_file_is_used_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    lines = (
        "numpy>=2  # arrays\nPillow\n--extra-index-url https://example.org/simple\n-e .\n\nopencv_python_headless==4\n"
    )
    make(tmp_path, {"train.py": TRAIN, "requirements.txt": lines})
    assert guessed(tmp_path).image.pip == Pip(file=tmp_path / "requirements.txt")
    note = "Imported, but not named in requirements.txt: models, PyYAML, scikit-learn, torch"
    assert note in guess(tmp_path)


def test_a_pyproject_is_used_when_it_has_dependencies(tmp_path: Path) -> None:
    make(tmp_path, {"pyproject.toml": "[project]\nname = 'The.Thing'\ndependencies = ['numpy']\n"})
    spec = guessed(tmp_path)
    assert (spec.name, spec.image.pip) == ("the.thing", Pip(file=tmp_path / "pyproject.toml"))
    make(tmp_path, {"pyproject.toml": "[project]\nname = 'x'\n"})
    assert guessed(tmp_path).image.pip == Pip()


GUARD = "\nif __name__ == '__main__':\n    pass\n"


@pytest.mark.parametrize(
    ("files", "run", "others"),
    [
        ({"main.py": "", "train.py": ""}, "python train.py", ""),
        ({"a.py": GUARD, "b.py": ""}, "python a.py", ""),
        ({"a.py": GUARD, "b.py": GUARD}, "python a.py", "b.py"),
        ({"pkg/cli.py": GUARD, "setup.py": GUARD, "test_a.py": GUARD}, "python pkg/cli.py", ""),
        ({"only.py": ""}, "python only.py", ""),
        ({"my script.py": GUARD}, "python 'my script.py'", ""),
        ({"{lr}'\n.py": GUARD}, "python train.py", ""),
        ({"broken.py": "def (", "ok.py": GUARD}, "python ok.py", ""),
        ({".venv/x.py": GUARD, "venv/pyvenv.cfg": "", "venv/y.py": GUARD}, "python train.py", ""),
    ],
)
def test_the_entry_script(tmp_path: Path, files: dict[str, str], run: str, others: str) -> None:
    make(tmp_path, files)
    assert guessed(tmp_path).run == run
    assert ("It could as well begin with" in guess(tmp_path)) == bool(others)


def test_click_options_and_positional_arguments_and_subcommands(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"train.py": "@click.option('--lr', '-l', default=0.1)\n@click.option('--amp', is_flag=True)\ndef f(): 0"},
    )
    assert guessed(tmp_path).run == "python train.py --lr {lr}"
    make(tmp_path, {"train.py": "p.add_argument('config')\np.add_argument('--lr', default=1)"})
    assert "also takes config" in guess(tmp_path)
    make(tmp_path, {"train.py": "s = p.add_subparsers()\ns.add_argument('--lr', default=1)"})
    assert guessed(tmp_path).run == "python train.py"


def test_a_package_named_data_is_code(tmp_path: Path) -> None:
    make(tmp_path, {"train.py": "from data import loaders", "data/loaders.py": "import lmdb"})
    spec = guessed(tmp_path)
    assert (spec.data, spec.image.pip.requirements) == ((), ("lmdb",))


def test_an_option_for_data_without_such_a_folder_stays_a_parameter(tmp_path: Path) -> None:
    make(tmp_path, {"train.py": "p.add_argument('--data', default='cifar10')\np.add_argument('--log', default=3)"})
    assert guessed(tmp_path).params == {"data": "cifar10", "log": 3}


def test_an_option_for_the_metrics_file_gets_the_runs_own(tmp_path: Path) -> None:
    make(tmp_path, {"train.py": "p.add_argument('--metrics', type=Path, default='metrics.jsonl')"})
    assert guessed(tmp_path).run == 'python train.py --metrics "$LAUNCHER_METRICS"'


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 1e-5, 1e22, 0.1, "", "a b", "no", "NULL", "0x1", "1:30", "é\x85\u2028", '"\\', "-", "[a", "🙂"],
)
def test_values_are_read_back(value: Param) -> None:
    node, problems = compose(f"a: {scalar(value)}\n", "x")
    assert node is not None
    assert not problems
    assert plain(node) == {"a": value}


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, {"train.py": TRAIN})
    path = tmp_path / "experiment.yaml"
    assert invoke(["init", str(tmp_path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    written = path.read_text()
    path.write_text("mine")
    assert invoke(["init", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert invoke(["init", str(tmp_path), "--force"]) == 0
    assert path.read_text() == written
    assert load(path).name


def test_the_verb_with_a_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["init", "--with-schema"]) == 0
    first = Path("experiment.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=experiment.schema.json"
    assert "properties" in json.loads(Path("experiment.schema.json").read_text())
    assert load("experiment.yaml").file == tmp_path / "experiment.yaml"


def test_the_verb_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["init", str(tmp_path / "missing")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_requirements_that_powershell_wrote_are_read(tmp_path: Path) -> None:
    make(tmp_path, {"train.py": "import numpy, yaml\n"})
    (tmp_path / "requirements.txt").write_bytes("numpy==1.26.4\r\n".encode("utf-16"))
    assert "not named in requirements.txt: PyYAML\n" in guess(tmp_path)
