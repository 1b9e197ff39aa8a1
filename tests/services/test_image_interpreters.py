"""The same lock gives the same bytes whatever Python builds it: 3.10 to 3.14, as many as can be had here.

Those of Debian's suites are run by launcher itself, in images of its own; others where this machine has them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image import build
from launcher.lock import Lock, dumps
from tests.identity import facts
from tests.services.test_image_engines import launcher
from tests.test_image_build import debian, lock  # noqa: F401  (fixtures)

pytestmark = [pytest.mark.services, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NEEDED = ("installer", "isal", "packaging", "zstandard", "tomli")
SPEC = """
name: builder
image:
  base: debian:{suite}
  pip: [{needed}]
run: python -m tests.identity /data/lock/experiment.lock /tmp/cache /data/artifacts/*
data:
  artifacts: artifacts
  lock: lock
code: {{exclude: [/artifacts, /lock, /store]}}
"""


@pytest.fixture
def project(debian: Lock, cache: Cache, tmp_path: Path) -> Path:  # noqa: F811
    """A folder with the package, a lock and its artifacts."""
    folder = tmp_path / "project"
    for name in ("launcher", "tests", "images"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "golden", "services"))
    (folder / "lock").mkdir()
    (folder / "lock" / "experiment.lock").write_text(dumps(debian))
    (folder / "artifacts").mkdir()
    for artifact in debian.artifacts:
        shutil.copy(cache.path("artifacts", artifact.sha256), folder / "artifacts" / artifact.sha256)
    return folder


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_pythons_of_debian(suite: str, project: Path, debian: Lock, cache: Cache, shared_cache: Cache) -> None:  # noqa: F811
    (project / "experiment.yaml").write_text(SPEC.format(suite=suite, needed=", ".join(NEEDED)))
    done = launcher("run", "--runtime", "sandbox", cwd=project, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == facts(build(debian, cache), cache)


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_pythons_of_this_machine(
    version: str,
    project: Path,
    debian: Lock,  # noqa: F811
    cache: Cache,
    tmp_path: Path,
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    home, uv = tmp_path / "env", str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "-q", "-p", python, home], check=True)
    command = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "-qq", *NEEDED]
    subprocess.run(command, check=True)  # pip and not uv: it knows this machine's indexes and certificates
    files = sorted((project / "artifacts").iterdir())
    args = [
        home / "bin" / "python",
        "-m",
        "tests.identity",
        project / "lock" / "experiment.lock",
        tmp_path / "c",
        *files,
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(args, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == facts(build(debian, cache), cache)


def interpreter(version: str) -> Path | None:
    """Return a Python of this version that really starts: on PATH, or where pyenv and uv keep theirs."""
    found = shutil.which(f"python{version}")
    shims = [Path(found).parents[1] / "versions"] if found else []  # pyenv's programs on PATH only lead to these
    places = [*shims, Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python", Path("/opt/python")]
    kept = [path for place in places for path in sorted(place.glob(f"*{version}*/bin/python{version}"))]
    for path in [*([Path(found)] if found else []), *kept]:
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None
