"""Requirements without a wheel: built in a real image of ours, without a network, once; and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.lock import Lock, load
from tests.index_server import Index, serve
from tests.sdists import offer, pure, with_c

pytestmark = pytest.mark.services

PROGRAM = "import json, tinyc, tinypure; print(json.dumps([tinyc.answer(), tinypure.network, tinypure.home]))"
SPEC = """
name: sdists
image:
  base: debian:bookworm
  pip: {file: requirements.txt}
  build: {packages: PACKAGES, apt: APT}
run: [python3, -c, "{program}"]
params: {program: ""}
"""
FROM_SOURCE = "is built from source"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serve() as running:
        port = int(running.url.split(":")[2].split("/")[0])
        offer(running, "tinypure", "1.0", pure(port))
        offer(running, "tinypure", "2.0", pure(port, "2.0"))
        offer(running, "tinyc", "1.0", with_c())
        yield running


def write(folder: Path, index: Index, *requirements: str, packages: str = "[tinyc, tinypure]", apt: str = "[]") -> None:
    text = SPEC.replace("PACKAGES", packages).replace("APT", apt)
    (folder / "experiment.yaml").write_text(text)
    lines = [f"--extra-index-url {index.url}", "--trusted-host 127.0.0.1", *requirements]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")


def launcher(*args: str | Path, cwd: Path, cache: Cache) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *map(str, args)],
        cwd=cwd,
        env={
            **os.environ,
            "LAUNCHER_CACHE": str(cache.root),
            "LAUNCHER_STORE": str(cwd / "store"),
            "NO_PROXY": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache, index: Index) -> Path:
    folder = tmp_path_factory.mktemp("sdists")
    write(folder, index, "tinyc", "tinypure<2", apt="[gcc, libc6-dev]")
    shutil.rmtree(shared_cache.root / "notes" / "built-wheels", ignore_errors=True)
    done = launcher("lock", cwd=folder, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(FROM_SOURCE) == 2
    return folder


@pytest.fixture(scope="module")
def lock(project: Path) -> Lock:
    return load(project / "experiment.lock")


def test_the_lock_names_source_and_builder(lock: Lock, index: Index) -> None:
    sources = {file.sha256 for name in ("tinyc", "tinypure") for file in index.files[name].values()}
    assert [(wheel.name, wheel.version) for wheel in lock.wheels] == [("tinyc", "1.0"), ("tinypure", "1.0")]
    assert {wheel.sdist for wheel in lock.wheels} <= sources
    assert all(wheel.builder and len(wheel.builder) == 64 for wheel in lock.wheels)
    assert lock.wheels[0].filename == "tinyc-1.0-cp311-cp311-linux_x86_64.whl"
    assert not {"gcc", "python3-dev"} & {deb.name for deb in lock.debs}, "what builds stays in the builder"


def test_it_runs_and_was_built_without_a_network(project: Path, shared_cache: Cache) -> None:
    done = launcher("run", "-p", f"program={PROGRAM}", cwd=project, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [42, "none", "/run/launcher/home"]


def test_the_second_lock_builds_nothing(project: Path, shared_cache: Cache) -> None:
    before = (project / "experiment.lock").read_bytes()
    done = launcher("lock", cwd=project, cache=shared_cache)
    assert (done.returncode, FROM_SOURCE in done.stderr) == (0, False), done.stderr
    assert (project / "experiment.lock").read_bytes() == before


def test_the_same_sources_give_the_same_wheels(project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path) -> None:
    for name in ("experiment.yaml", "requirements.txt"):
        shutil.copy(project / name, tmp_path)
    shutil.rmtree(shared_cache.root / "notes" / "built-wheels")
    done = launcher("lock", cwd=tmp_path, cache=shared_cache)
    assert done.stderr.count(FROM_SOURCE) == 2, done.stderr
    assert load(tmp_path / "experiment.lock").wheels == lock.wheels


def test_a_missing_compiler_is_told(index: Index, shared_cache: Cache, tmp_path: Path) -> None:
    write(tmp_path, index, "tinyc", packages="[tinyc]")
    done = launcher("lock", cwd=tmp_path, cache=shared_cache)
    assert done.returncode == 65
    assert "tinyc 1.0 can't be built from tinyc-1.0.tar.gz" in done.stderr
    assert "image.build.apt: [g++]" in done.stderr


def test_what_is_not_named_is_not_built(index: Index, shared_cache: Cache, tmp_path: Path) -> None:
    write(tmp_path, index, "tinyc", packages="[]")
    done = launcher("lock", cwd=tmp_path, cache=shared_cache)
    assert done.returncode == 65
    assert "image.build.packages" in done.stderr


def test_a_lost_wheel_comes_back_from_the_vault(project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    assert launcher("vault", "add", "experiment.lock", "--to", vault, cwd=project, cache=shared_cache).returncode == 0
    elsewhere = Cache(tmp_path / "elsewhere")
    for deb in lock.debs:
        shutil.copy2(shared_cache.path("artifacts", deb.sha256), tmp_path / "one")
        elsewhere.adopt("artifacts", deb.sha256, tmp_path / "one")
    lost = launcher("rebuild", "experiment.lock", cwd=project, cache=elsewhere)
    assert lost.returncode == 69
    assert "tinyc, tinypure: built once when the lock was made" in lost.stderr
    done = launcher("rebuild", "experiment.lock", "--from", vault, "--offline", cwd=project, cache=elsewhere)
    assert lock.image is not None
    assert done.stdout == f"identical sha256:{lock.image.id}\n", done.stderr


def test_a_real_package_that_has_no_wheel(shared_cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(
        "name: real\nimage:\n  pip: [docopt]\n  build: {packages: [docopt]}\nrun: python3 -c 'import docopt'\n"
    )
    done = launcher("lock", cwd=tmp_path, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    assert [wheel.filename for wheel in load(tmp_path / "experiment.lock").wheels] == [
        "docopt-0.6.2-py2.py3-none-any.whl"
    ]
