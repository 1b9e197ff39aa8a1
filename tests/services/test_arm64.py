"""A real image for linux/arm64 made on this machine, whatever it is: every program in it is aarch64's, and it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image import Image, build
from launcher.lock import Lock, load
from launcher.target import architecture

pytestmark = pytest.mark.services

AARCH64 = 183  # e_machine of EM_AARCH64 (ELF for the Arm 64-bit Architecture)
SPEC = """
name: arm
image:
  base: debian:bookworm
  platform: linux/arm64
  apt: [jq]
  pip: ["numpy>=1.26"]
run: [python3, -c, "import numpy"]
"""
PROGRAM = "import numpy, platform; print(platform.machine(), int(numpy.arange(10).sum()))"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    folder = tmp_path_factory.mktemp("arm64")
    (folder / "experiment.yaml").write_text(SPEC)
    done = launcher("lock", cwd=folder, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    return folder


def launcher(*args: str, cwd: Path, cache: Cache) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *args],
        cwd=cwd,
        env={**os.environ, "LAUNCHER_CACHE": str(cache.root), "LAUNCHER_STORE": str(cwd / "store")},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def lock(project: Path) -> Lock:
    return load(project / "experiment.lock")


@pytest.fixture(scope="module")
def image(lock: Lock, shared_cache: Cache) -> Image:
    return build(lock, shared_cache)


@pytest.fixture(scope="module")
def root(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files in one folder."""
    folder = tmp_path_factory.mktemp("arm64-root")
    for layer in image.layers:
        subprocess.run(["tar", "-xf", layer.path, "-C", folder], check=True)
    return folder


def test_every_elf_file_is_aarch64(root: Path) -> None:
    machines = {path: machine for path in files(root) if (machine := elf_machine(path)) is not None}
    wrong = {str(path.relative_to(root)): machine for path, machine in machines.items() if machine != AARCH64}
    assert wrong == {}
    assert len(machines) > 200, "an image with Python and numpy has hundreds of them"


def files(root: Path) -> list[Path]:
    found = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def elf_machine(path: Path) -> int | None:
    with path.open("rb") as stream:
        head = stream.read(20)
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" and len(head) == 20 else None


def test_another_assembly_gives_the_same_id(lock: Lock, image: Image, shared_cache: Cache, tmp_path: Path) -> None:
    elsewhere = Cache(tmp_path / "else where")
    for artifact in lock.artifacts:
        shutil.copy2(shared_cache.path("artifacts", artifact.sha256), tmp_path / "one")
        elsewhere.adopt("artifacts", artifact.sha256, tmp_path / "one")
    again = build(lock, elsewhere, workers=1)
    assert lock.image is not None
    assert lock.image.id == image.id == again.id


def test_it_is_refused_where_it_cannot_run(project: Path, shared_cache: Cache) -> None:
    if architecture.here() == "arm64":
        pytest.skip("this machine can run it")
    done = launcher("run", cwd=project, cache=shared_cache)
    assert done.returncode == 69
    assert "the image is for linux/arm64, and this machine is linux/" in done.stderr


def test_its_python_runs_numpy_under_emulation(root: Path, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("needs qemu-aarch64-static (Debian: qemu-user-static)")
    inside = [str(shutil.which("unshare")), "--user", "--map-root-user", "--root", str(root), "/qemu"]
    shutil.copy2(emulator, root / "qemu")
    done = subprocess.run([*inside, "/opt/env/bin/python", "-c", PROGRAM], env={}, capture_output=True, text=True)
    assert done.stdout == "aarch64 45\n", done.stderr
