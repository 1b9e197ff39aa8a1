"""What a command may import of the bundle: `launcher.train`, behind everything that the user has of that name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image.oci import Image
from launcher.target import bundle
from tests.rootfs import tiny_image
from tests.test_target_local import Desk

SAVE = (
    "from launcher import train\n"
    "import sys\n"
    "state = train.load(train.latest()) or {'step': 0}\n"
    "print(state['step'], train.__file__, sys.path.index('/opt/launcher/lib'))\n"
    "train.log(4, loss=0.5)\n"
    "train.save(4, {'step': 4})\n"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("library-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache)


@pytest.fixture
def desk(cache: Cache, image: Image, tmp_path: Path) -> Iterator[Desk]:
    yield Desk(cache, image, tmp_path)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's `lib`, as it lies in a container."""
    folder = tmp_path_factory.mktemp("bundle") / "lib"
    for name, path in bundle.library():
        place = folder.parent / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return folder


def python(cwd: Path, script: str, *folders: Path) -> str:
    path = ":".join(map(str, folders))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("determinism", ["seed", "strict"])
def test_the_command_imports_it_last(desk: Desk, capfd: pytest.CaptureFixture[str], determinism: str) -> None:
    env = {"PYTHONPATH": "/workspace/mine"}
    assert desk.run(desk.work("python3", "-c", SAVE, determinism=determinism, env=env)).exit_code == 0
    said = capfd.readouterr().out.split()
    assert said == ["0", "/opt/launcher/lib/launcher/train/__init__.py", "3" if determinism == "strict" else "2"]


def test_nothing_else_of_the_bundle_is_in_reach(library: Path, tmp_path: Path) -> None:
    assert [path.name for path in library.iterdir()] == ["launcher"]
    script = "import launcher.train\ntry: import launcher.runner\nexcept ImportError as e: print(e)"
    assert python(tmp_path, script, library) == "No module named 'launcher.runner'\n"


def test_an_installed_launcher_is_the_one_that_counts(library: Path, tmp_path: Path) -> None:
    """Site-packages come after PYTHONPATH, so ours is found first, and steps back."""
    theirs = tmp_path / "site-packages" / "launcher"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").write_text("name = 'theirs'\n")
    (theirs / "engine.py").write_text("speed = 3\n")
    script = (
        "import launcher.engine, launcher; from launcher import train; print(launcher.name, train.step_of('a-3.pt'))"
    )
    assert python(tmp_path, script, library, theirs.parent) == "theirs 3\n"
    (theirs / "train.py").write_text("mine = True\n")
    assert python(tmp_path, "from launcher import train; print(train.mine)", library, theirs.parent) == "True\n"


def test_a_module_of_that_name_counts_too(library: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "launcher.py").write_text("def launch(): return 'up'\n")
    assert python(tmp_path, "import launcher; print(launcher.launch())", library, tmp_path / "site") == "up\n"


def test_a_folder_of_scripts_in_the_code_is_shared(library: Path, tmp_path: Path) -> None:
    """Without __init__.py a folder is no package of its own; ours would hide it (PEP 420)."""
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "jobs.py").write_text("count = 2\n")
    script = "import launcher.jobs; from launcher import train; print(launcher.jobs.count, train.__name__)"
    assert python(tmp_path, script, library) == "2 launcher.train\n"


def test_a_package_in_the_code_comes_first_anyway(library: Path, tmp_path: Path) -> None:
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "__init__.py").write_text("name = 'mine'\n")
    assert python(tmp_path, "import launcher; print(launcher.name)", library) == "mine\n"


def test_an_isolated_python_does_without(library: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import launcher"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(library)},
        capture_output=True,
        text=True,
    )
    assert "No module named 'launcher'" in done.stderr
