"""The frame: which room may import which, who may print, and what a wheel carries."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "launcher"

GROUND = {"cache", "credentials", "data", "digest", "errors", "findings", "hearing", "process", "progress", "toml"}
LIGHT = {"digest", "errors", "findings"}
ROOMS = {
    # a room: what it may import of the others besides the ground. `image` never gets `resolve`, `fetch` or `indexes`:
    # building asks nobody what is newest. The runner starts inside the container, so it gets next to nothing.
    "gpu": LIGHT,  # the runner asks it too
    "spec": GROUND,
    "lock": GROUND | {"gpu", "spec"},
    "registry": GROUND | {"lock"},
    "indexes": GROUND | {"lock"},
    "fetch": GROUND | {"indexes", "lock", "registry"},
    "image": GROUND | {"gpu", "lock"},
    "resolve": GROUND | {"fetch", "gpu", "image", "indexes", "inputs", "lock", "registry", "spec"},
    "code": GROUND | {"image", "spec"},  # the archive of the code is written as layers are
    "sweep": GROUND | {"spec"},
    "job": GROUND | {"gpu", "spec", "sweep"},
    "store": LIGHT,
    "train": set(),  # what a training script may import inside the container: the standard library alone
    "access": GROUND | {"store"},  # how this machine reaches a store: its settings, profiles and credentials
    "inputs": GROUND | {"access", "indexes", "lock", "spec", "store"},  # of `indexes` the way to ask the web
    "runner": LIGHT | {"gpu", "store"},
    "target": GROUND | {"access", "code", "gpu", "image", "inputs", "job", "lock", "store"},
    "workshop": GROUND | {"image", "lock", "resolve", "target"},  # what executes something to make an artifact
    "records": GROUND | {"access", "job", "runner", "store"},  # a record is folded by the runner, or later by its rules
    "vault": GROUND | {"access", "lock", "records", "store"},
    "profiles": GROUND | {"gpu", "job"},  # what is known of a site, and whether a job fits it
    "node": GROUND | {"access", "gpu", "image", "inputs", "job", "profiles", "records", "runner", "store", "target"},
    "remote": GROUND  # what is sent, and how
    | {"fetch", "image", "indexes", "lock", "node", "profiles", "registry", "target"},
    "box": GROUND  # the host side on a box that is reached by SSH: what `node` is on a cluster
    | {"access", "gpu", "image", "inputs", "job", "node", "profiles", "records", "remote", "runner", "store", "target"},
    "ssh": GROUND  # the target that such a box is, seen from here
    | {"access", "box", "gpu", "image", "job", "node", "profiles", "records", "remote", "runner", "spec", "store"}
    | {"target"},
    "slurm": GROUND
    | {"access", "gpu", "image", "job", "node", "profiles", "records", "remote", "runner", "spec", "store", "sweep"}
    | {"target"},
    "__main__": {"cli"},
    **dict.fromkeys(GROUND, GROUND),
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
    """Yield the rooms that a module imports anywhere: at its top, in functions, for types."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full, so that this test sees them"
            found = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "launcher" else []
            found += [node.module] if node.module and node.module != "launcher" else []
        yield from (name.split(".")[1] for name in found if name.startswith("launcher.") and "__version__" not in name)


def test_imports_point_backwards_along_the_street() -> None:
    wrong = []
    for path in modules():
        if (here := room(path)) not in ("cli", "__init__"):
            assert here in ROOMS, f"{here} is a new room: say in this test's table what it may import"
            wrong += [f"{name(path)} -> {other}" for other in set(imported_rooms(path)) - ROOMS[here] - {here}]
    assert not wrong


def test_the_table_has_no_cycle_above_the_ground() -> None:
    order = list(ROOMS)
    for here, allowed in ROOMS.items():
        if here not in GROUND and here != "__main__":
            assert all(here not in ROOMS[other] for other in allowed - GROUND), f"{here} and another import each other"
            assert "cli" not in allowed
    assert set(order) == {room(path) for path in modules()} - {"cli", "__init__"}, "a room of the table is gone"


def endings(path: Path) -> Iterator[str]:
    """Yield calls of print, exit and sys.exit, and uses of SystemExit."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "exit", "quit", "sys.exit"):
                yield f"{called} in line {node.lineno}"
        elif isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc):
            yield f"SystemExit in line {node.lineno}"


def test_only_the_command_line_prints_or_exits() -> None:
    found = [f"{name(path)}: {what}" for path in modules() if room(path) != "cli" for what in endings(path)]
    assert not found


def test_the_detectors_detect(tmp_path: Path) -> None:
    """A test that walks over code and finds nothing should be known to find something."""
    bad = tmp_path / "bad.py"
    bad.write_text(
        "def f():\n    from launcher.cli import x\n    import launcher.image.tar\n    print(1)\n    sys.exit(1)\n"
    )
    assert set(imported_rooms(bad)) == {"cli", "image"}
    assert list(endings(bad)) == ["print in line 4", "sys.exit in line 5"]


def test_every_room_says_what_it_is_for() -> None:
    """Each module begins with a sentence."""
    texts = {name(path): ast.get_docstring(ast.parse(path.read_bytes())) or "" for path in modules()}
    assert not [path for path, text in texts.items() if not text.split("\n\n")[0].rstrip().endswith((".", ":"))]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built as `pip wheel` would, with the build backend at hand and nothing fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling import build; print(build.build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.splitlines()[-1])


def test_the_wheel_carries_the_facts(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("images", "slurm"):
        found = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()]
        tracked = {path.as_posix() for path in found if "__pycache__" not in path.parts}
        assert tracked, f"{folder}/ is empty, so it would not be there in a clone"
        assert {f"launcher/_data/{name}" for name in tracked} <= names
    assert "launcher/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "examples/", ".ci/"))]


def test_an_installed_wheel_finds_its_facts(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "from launcher.data import data_path; print(data_path('images', 'debian.toml'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    place = Path(done.stdout.strip())
    assert place.is_relative_to(tmp_path), done.stderr
    assert place.read_bytes() == (ROOT / "images" / "debian.toml").read_bytes()


def test_the_wheel_needs_what_the_project_says(wheel: zipfile.ZipFile) -> None:
    [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    text = wheel.read(metadata).decode()
    assert "Requires-Python: >=3.10" in text
    assert "License-Expression: MIT" in text
    assert "torch" not in text and "pytest" not in text
