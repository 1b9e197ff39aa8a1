"""A Containerfile as a base, built by a real Docker engine and by Podman, pinned, put under wheels, and restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image import build
from launcher.image.export import write_archive
from launcher.lock import load
from tests.services.test_sdists import launcher as launcher_of

pytestmark = pytest.mark.services

SPEC = """
name: built
image:
  containerfile: image/Containerfile
  pip: [PIP]
  env: {FROM_SPEC: spec}
code: {exclude: ["image/*"]}
run: cd /srv; cat marker data/a.txt; ls data; echo $FROM_FILE $FROM_SPEC; python3 -c 'import attrs; print("attrs")'
"""
CONTAINERFILE = """
FROM scratch
ADD rootfs.tar /
COPY data /srv/data
RUN date +%s.%N > /srv/when && echo built > /srv/marker && rm -r /usr/share/doc
ENV FROM_FILE=file
"""
BASE = "name: base\nimage:\n  python: '3.11'\nrun: 'true'\n"
PRINTED = "built\nhello\na.txt\nfile spec\nattrs\n"


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    """A Debian with Python as one tar: what ADD unpacks, so that no registry is needed."""
    folder = tmp_path_factory.mktemp("rootfs")
    (folder / "experiment.yaml").write_text(BASE)
    done = launcher_of("lock", cwd=folder, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    (folder / "root").mkdir()
    for layer in build(load(folder / "experiment.lock"), shared_cache).layers:
        subprocess.run(["tar", "-xf", layer.path, "-C", folder / "root"], check=True)
    subprocess.run(["tar", "-cf", folder / "rootfs.tar", "-C", folder / "root", "."], check=True)
    return folder / "rootfs.tar"


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "docker":
        if not shutil.which("docker"):
            pytest.skip("needs the docker CLI")
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("docker_engine"))
    elif not shutil.which("podman"):
        pytest.skip("needs podman")
    monkeypatch.setenv("LAUNCHER_ENGINE", request.param)
    yield request.param


@pytest.fixture
def project(rootfs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    (folder / "image" / "data").mkdir(parents=True)
    (folder / "image" / "rootfs.tar").hardlink_to(rootfs)
    (folder / "image" / "data" / "a.txt").write_text("hello\n")
    (folder / "image" / "data" / "b.log").write_text("not this\n")
    (folder / "image" / ".dockerignore").write_text("**/*.log\n")
    (folder / "image" / "Containerfile").write_text(CONTAINERFILE)
    (folder / "experiment.yaml").write_text(SPEC.replace("PIP", "attrs"))
    return folder


def launcher(*args: str | Path, cwd: Path, cache: Cache) -> subprocess.CompletedProcess[str]:
    return launcher_of(*args, cwd=cwd, cache=cache)


def test_built_once_pinned_and_restored(engine: str, project: Path, cache: Cache, tmp_path: Path) -> None:
    """One long story, since every step works on the image that the one before has made."""
    first = launcher("lock", cwd=project, cache=cache)
    assert f"Containerfile is built by {engine}" in first.stderr, first.stderr
    lock = load(project / "experiment.lock")
    assert lock.base is not None and lock.image is not None
    assert (lock.base.kind, lock.base.system, lock.python, lock.inputs.base) == (
        "containerfile",
        "debian",
        "3.11.2",
        "",
    )
    assert [wheel.name for wheel in lock.wheels] == ["attrs"]

    done = launcher("run", cwd=project, cache=cache)
    assert (done.stdout, done.returncode) == (PRINTED, 0), done.stderr

    (project / "image" / "data" / "b.log").write_text("ignored, so it may change\n")
    (project / "experiment.yaml").write_text(SPEC.replace("PIP", "attrs, six"))
    again = launcher("lock", cwd=project, cache=cache)
    assert again.returncode == 0, again.stderr
    assert "is built by" not in again.stderr
    relocked = load(project / "experiment.lock")
    assert relocked.base == lock.base
    assert [wheel.name for wheel in relocked.wheels] == ["attrs", "six"]

    vault, elsewhere = tmp_path / "vault", Cache(tmp_path / "elsewhere")
    added = launcher("vault", "add", "experiment.lock", "--to", vault, cwd=project, cache=cache)
    assert added.returncode == 0, added.stderr
    lost = launcher("rebuild", "experiment.lock", cwd=project, cache=elsewhere)
    assert lost.returncode == 69
    assert "Containerfile: built once when the lock was made" in lost.stderr
    assert relocked.image is not None
    restored = launcher("rebuild", "experiment.lock", "--from", vault, "--offline", cwd=project, cache=elsewhere)
    assert restored.stdout == f"restored sha256:{relocked.image.id}\n", restored.stderr

    (project / "image" / "data" / "a.txt").write_text("changed\n")
    check = launcher("lock", "--check", cwd=project, cache=cache)
    assert check.returncode == 65
    assert "the Containerfile, or a file that it copies, has changed since the lock was made" in check.stderr


def test_an_upgrade_builds_anew_and_a_lost_image_is_told(
    engine: str, project: Path, cache: Cache, tmp_path: Path
) -> None:
    (project / "image" / "Containerfile").write_text(CONTAINERFILE.replace("date", f"echo {engine}; date"))
    assert launcher("lock", cwd=project, cache=cache).returncode == 0
    lock = load(project / "experiment.lock")
    elsewhere = Cache(tmp_path / "elsewhere")
    lost = launcher("lock", cwd=project, cache=elsewhere)
    assert lost.returncode == 69
    assert "what was executed can't be rebuilt, only restored" in lost.stderr

    store = project / "store"
    assert launcher("vault", "add", "experiment.lock", "--to", store, cwd=project, cache=cache).returncode == 0
    back = launcher("lock", cwd=project, cache=elsewhere)
    assert back.returncode == 0, back.stderr
    assert "is built by" not in back.stderr
    assert load(project / "experiment.lock").image == lock.image

    upgraded = launcher("lock", "--upgrade", cwd=project, cache=elsewhere)
    assert f"is built by {engine}" in upgraded.stderr


def test_a_build_that_fails_tells_its_last_words(engine: str, project: Path, cache: Cache) -> None:
    (project / "image" / "Containerfile").write_text("FROM scratch\nCOPY nothing-there /\n")
    done = launcher("lock", cwd=project, cache=cache)
    assert done.returncode == 65, done.stderr
    assert f"Containerfile can't be built by {engine}" in done.stderr
    assert "nothing-there" in done.stderr


def test_without_an_engine(project: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_ENGINE", "docker")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "lock"],
        cwd=project,
        env={**os.environ, "LAUNCHER_CACHE": str(cache.root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 69
    assert "there is nothing here to build a Containerfile with" in done.stderr


def test_an_image_of_launchers_own_is_built_upon(
    engine: str, rootfs: Path, shared_cache: Cache, cache: Cache, tmp_path: Path
) -> None:
    """`FROM` our image as the engine has loaded it; Buildah refuses one whose config has no history."""
    own = build(load(rootfs.parent / "experiment.lock"), shared_cache)
    write_archive(own, tmp_path / "own.tar")
    subprocess.run([engine, "load", "-q", "-i", tmp_path / "own.tar"], check=True, timeout=300)
    (tmp_path / "own.tar").unlink()
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Containerfile").write_text(f"FROM {own.tag}\nRUN echo {engine} > /srv/engine\n")
    text = "name: upon\nimage: {containerfile: context/Containerfile}\nrun: cat /srv/engine\n"
    (tmp_path / "experiment.yaml").write_text(text)
    done = launcher("run", cwd=tmp_path, cache=cache)
    assert (done.stdout, done.returncode) == (f"{engine}\n", 0), done.stderr
    lock = load(tmp_path / "experiment.lock")
    assert lock.base is not None
    assert [x.diff_id for x in lock.base.layers[: len(own.layers)]] == [layer.diff_id for layer in own.layers]
