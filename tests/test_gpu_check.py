"""`make gpu-check` where there is no GPU, and with an interpreter that plays one with torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launcher import spec
from launcher.gpu import has_driver

EXAMPLES = Path(__file__).parents[1] / "examples"
PYTHON = """#!{python}
import json, os, sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
told = dict(deterministic={deterministic}, weights={weights}, matmul=os.environ["LAUNCHER_SEED"])
assert os.environ["CUBLAS_WORKSPACE_CONFIG"] and "strict" in os.environ["PYTHONPATH"]
(out / "summary.json").write_text(json.dumps(told))
sys.exit({code})
"""


def gpu_check(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, EXAMPLES / "gpu_check.py", *words], capture_output=True, text=True)


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = gpu_check()
    assert (done.returncode, done.stderr) == (69, "")
    assert "no GPU on this machine" in done.stdout


@pytest.mark.parametrize(
    ("deterministic", "weights", "code", "expected", "says"),
    [
        ("True", "'a'", 0, 0, "weights: the same bits"),
        ("True", "out.name", 0, 1, "weights: differ"),
        ("False", "'a'", 0, 1, "strict was not in force"),
        ("True", "'a'", 3, 1, "ended with 3"),
    ],
)
def test_two_runs_are_compared(
    tmp_path: Path, deterministic: str, weights: str, code: int, expected: int, says: str
) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON.format(python=sys.executable, deterministic=deterministic, weights=weights, code=code))
    python.chmod(0o755)
    done = gpu_check("--cpu", "--host-python", str(python))
    assert done.returncode == expected, done.stderr
    assert says in done.stdout + done.stderr


def test_its_spec_is_good_and_asks_for_a_gpu() -> None:
    found = spec.load(EXAMPLES / "gpu" / "experiment.yaml")
    assert (found.determinism, found.resources.gpus.count) == ("strict", 1)
    assert "launcher" not in (EXAMPLES / "gpu" / "train.py").read_text().lower()
