"""`determinism: strict`: what it sets, what it does to frameworks as they are imported, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.runner import determinism
from tests.attempts import Bench, without_progress

STRICT = {"determinism": "strict", "seed": 7}
TORCH = """
import random
calls = []
__version__ = "2.13.0"
def manual_seed(n): calls.append(("seed", n))
def set_deterministic_debug_mode(mode): calls.append(("mode", mode))
class version: cuda = "12.6"
class backends:
    class cudnn: benchmark, deterministic = True, False
def scatter(): raise RuntimeError("scatter does not have a deterministic implementation, but you set ...")
"""
SEEN = "print(torch.calls, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "run")
    (bench.cwd / "torch.py").write_text(TORCH)
    (bench.cwd / "tensorflow.py").write_text("")
    return bench


def strict(bench: Bench, script: str, **told: Any) -> subprocess.CompletedProcess[bytes]:
    return bench.python(script, job={**STRICT, **told.pop("job", {})}, **told)


def test_every_number_is_the_jobs() -> None:
    env: dict[str, str] = {"OMP_NUM_THREADS": "2", "XLA_FLAGS": "--xla_dump_to=/x", "PYTHONPATH": "/mine"}
    determinism.add(env, {**STRICT, "resources": {"cpus": 8}}, "/f")
    assert env["OMP_NUM_THREADS"] == "2", "what the image or the spec says stays"
    assert {env[name] for name in determinism.THREADS[1:]} == {"8"}
    assert env["PYTHONHASHSEED"] == "7" and env["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert env["XLA_FLAGS"] == "--xla_dump_to=/x --xla_gpu_deterministic_ops=true"
    assert env["PYTHONPATH"] == f"{determinism.STRICT}:/mine"
    assert (Path(determinism.STRICT) / "sitecustomize.py").exists()
    assert [path.name for path in Path(determinism.STRICT).iterdir() if path.name != "__pycache__"] == [
        "sitecustomize.py"
    ], "all in this folder can be imported by a user's script"


def test_threads_without_cpus_are_one_and_not_the_hosts() -> None:
    env: dict[str, str] = {}
    determinism.add(env, {"determinism": "strict", "resources": {"cpus": None}}, "/f")
    assert {env[name] for name in determinism.THREADS} == {"1"}


@pytest.mark.parametrize(("how", "names"), [("off", set()), ("seed", {"PYTHONHASHSEED"})])
def test_other_levels_set_little(how: str, names: set[str]) -> None:
    env: dict[str, str] = {}
    determinism.add(env, {"determinism": how, "seed": 1}, "/f")
    assert set(env) == names


def test_torch_is_made_deterministic_and_random_is_seeded_without_a_word_in_the_script(bench: Bench) -> None:
    done = strict(bench, f"import random, torch\n{SEEN}print(random.random())\nimport math")
    expected = "[('seed', 7), ('mode', 'error')] False True"
    assert done.stdout.decode().splitlines()[0] == expected, done.stderr
    assert without_progress(done.stderr) == b""
    again = strict(Bench(bench.root, "run-2"), "import random\nprint(random.random())")
    assert again.stdout.splitlines()[0] == done.stdout.splitlines()[1]
    other = strict(Bench(bench.root, "run-3"), "import random\nprint(random.random())", job={"seed": 8})
    assert other.stdout != again.stdout


def test_workers_inherit_it_and_each_rank_has_its_own_seed(bench: Bench) -> None:
    script = (
        "import subprocess\n"
        "again = 'import torch; print(torch.calls)'\n"
        "for rank in '0', '3':\n"
        "    subprocess.run([sys.executable, '-c', again], env={**os.environ, 'RANK': rank, 'WORLD_SIZE': '4'})\n"
    )
    done = strict(bench, script)
    assert [line.split("),")[0] for line in done.stdout.decode().splitlines()] == ["[('seed', 7", "[('seed', 10"]
    assert bench.record().frameworks == {"torch": "2.13.0", "cuda": "12.6", "world_size": 4}


def test_an_operation_that_is_refused_says_who_refused_it(bench: Bench) -> None:
    done = strict(bench, "import torch\ntorch.scatter()")
    assert done.returncode == 1
    assert done.stderr.count(b"launcher: `determinism: strict` in the spec forbids") == 1
    assert b"scatter does not have" in done.stderr
    assert b"launcher:" not in strict(Bench(bench.root, "run-2"), "import torch\nraise RuntimeError('other')").stderr


def test_a_framework_that_can_not_be_made_deterministic_is_told_once_and_goes_on(bench: Bench) -> None:
    """The tensorflow beside the script has nothing of what is asked of it."""
    script = "import subprocess, tensorflow\nprint('on')\nsubprocess.run([sys.executable, '-c', 'import tensorflow'])\n"
    done = strict(bench, script)
    assert (done.returncode, done.stdout) == (0, b"on\n")
    assert done.stderr.count(b"tensorflow could not be made deterministic: AttributeError") == 1


def test_the_users_own_sitecustomize_is_imported_too(bench: Bench, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins\nbuiltins.mine = __file__\n")
    script = f"import sitecustomize\nprint(mine, sitecustomize.__file__)\nimport torch\n{SEEN}"
    done = strict(bench, script, environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(own)})
    first, second = done.stdout.decode().splitlines()
    assert first == f"{own}/sitecustomize.py {own}/sitecustomize.py"
    assert second.startswith("[('seed', 7)")


def test_modules_look_as_they_would_without_it(bench: Bench) -> None:
    script = (
        "import importlib.util, inspect\n"
        "assert importlib.util.find_spec('torch').origin.endswith('torch.py')\n"
        "import torch\n"
        "print(type(torch.__loader__).__name__, type(torch.__spec__.loader).__name__, torch.calls != [])\n"
        "print(inspect.getsource(torch.scatter).startswith('def scatter'))\n"
        "try:\n    import tensorflow.absent\nexcept ModuleNotFoundError as e: print(e.name)\n"
    )
    done = strict(bench, script)
    assert done.stdout.decode().splitlines() == ["SourceFileLoader SourceFileLoader True", "True", "tensorflow.absent"]


def test_without_the_variable_or_the_path_it_is_inert(bench: Bench) -> None:
    script = (
        "import subprocess\n"
        "again = 'import sys; sys.path.insert(0, \".\"); import torch; print(torch.calls)'\n"
        "subprocess.run([sys.executable, '-I', '-c', again])\n"
        "env = {k: v for k, v in os.environ.items() if k != 'LAUNCHER_DETERMINISM'}\n"
        "subprocess.run([sys.executable, '-c', again], env=env)\n"
    )
    assert strict(bench, script).stdout == b"[]\n[]\n"


def test_it_costs_a_python_little() -> None:
    """Modules are counted and not milliseconds, which depend on the machine: measured, it is about one."""
    command = [sys.executable, "-c", "import sys; print(*sorted(sys.modules))"]
    env = {"PYTHONPATH": determinism.STRICT, "LAUNCHER_DETERMINISM": "strict"}
    with_it = subprocess.run(command, env=env, capture_output=True)
    without = subprocess.run(command, env={}, capture_output=True)
    assert (with_it.returncode, with_it.stderr) == (0, b"")
    assert set(with_it.stdout.split()) - set(without.stdout.split()) <= {
        *(b"importlib", b"importlib._bootstrap", b"importlib._bootstrap_external", b"importlib.machinery"),
        *(b"_imp", b"_warnings", b"warnings", b"__future__", b"sitecustomize"),
    }


def test_without_frameworks_the_record_names_none(bench: Bench) -> None:
    strict(bench, "pass")
    record = bench.record()
    assert record.frameworks is None and record.complete
    assert json.loads(bench.store.get("runs/run-1/record.json"))["frameworks"] is None
