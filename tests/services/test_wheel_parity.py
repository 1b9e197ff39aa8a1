"""Popular wheels: what we unpack equals what pip installs, apart from a short list of named differences."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from launcher.image import wheel

pytestmark = [pytest.mark.services, pytest.mark.slow]

WHEELS = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "torch==2.13.0",
    "pillow",
    "lxml",
    "pyyaml",
    "matplotlib",
    "protobuf",
    "pydantic",
    "pydantic-core",
    "setuptools",
    "sympy",
    "jupyterlab-widgets",
)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
DIFFERENT_ON_PURPOSE = {
    "INSTALLER": "names who installed it",
    "RECORD": "ours is sorted, and lists what we made",
    "REQUESTED": "pip notes what was asked for by name",
    "direct_url.json": "pip notes where a file came from: a path of the machine",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheels, fetched from whatever index this machine is configured for."""
    folder = tmp_path_factory.mktemp("wheels")
    args = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*args, *WHEELS], check=True, timeout=600)
    return folder


@pytest.mark.parametrize("name", WHEELS)
def test_the_tree_is_pips(name: str, folder: Path, tmp_path: Path) -> None:
    stem = name.partition("==")[0].replace("-", "_")
    (path,) = [x for x in folder.glob("*.whl") if x.name.lower().startswith(f"{stem}-")]
    ours, by_pip = unpacked(path), installed(path, tmp_path / "env")
    differing = {p for p in ours.keys() | by_pip.keys() if ours.get(p) != by_pip.get(p)}
    assert {p for p in differing if not named(p, ours, by_pip)} == set()


def unpacked(path: Path) -> dict[str, tuple[bool, str]]:
    """Return (executable, sha256) by path, as the assembler has it."""
    found = {}
    for entry in wheel.read(path, path.name, HERE):
        digest = hashlib.sha256()
        assert entry.content
        for chunk in entry.content.chunks():
            digest.update(chunk)
        found[entry.path.removeprefix("opt/env/")] = (bool(entry.mode & 0o100), digest.hexdigest())
    return found


def installed(path: Path, home: Path) -> dict[str, tuple[bool, str]]:
    """Return the same of what pip puts into an empty virtual environment."""
    venv.create(home, with_pip=False)
    before = set(home.rglob("*"))
    args = [sys.executable, "-m", "pip", "--python", str(home), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*args, "--no-compile", str(path)], check=True, timeout=300)
    return {
        str(file.relative_to(home)): (bool(file.stat().st_mode & 0o100), hashlib.sha256(file.read_bytes()).hexdigest())
        for file in home.rglob("*")
        if file.is_file() and file not in before
    }


def named(path: str, ours: dict[str, tuple[bool, str]], by_pip: dict[str, tuple[bool, str]]) -> bool:
    """Tell whether a difference is one of the named ones."""
    if ".dist-info/" in path and path.rpartition("/")[2] in DIFFERENT_ON_PURPOSE:
        return True
    if path.startswith("bin/"):  # generated programs: another text that does the same, and a fixed interpreter
        return path in ours and path in by_pip
    return "__pycache__" in path and path not in ours  # byte code that a wheel ships is dropped
