"""An image of a real lock, in the hands of others: skopeo, umoci, Docker, pip; and rebuilt without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.image import Image, build
from launcher.image.export import load_into_docker, write_archive
from launcher.lock import Lock, load

pytestmark = pytest.mark.services

SPEC = """
name: engines
image:
  base: debian:bookworm
  python: "3.11"
  apt: [jq]
  pip: ["numpy>=1.26", pip, "pyyaml>=6"]
  env: {GREETING: "it's $HOME \\"quoted\\""}
run: [python, -c, "{script}"]
params:
  script: "print(1)"
"""
SCRIPT = """
import json, os, subprocess, sys
import numpy, yaml
print(json.dumps({
    "numpy": numpy.__version__, "yaml": yaml.__version__, "sum": float(numpy.arange(10).sum()),
    "python": sys.version, "prefix": sys.prefix, "executable": sys.executable, "path": sys.path[1:],
    "cwd": os.getcwd(), "greeting": os.environ["GREETING"], "PATH": os.environ["PATH"],
    "jq": subprocess.run(["jq", "-n", "1+1"], capture_output=True, text=True).stdout,
    "os": open("/etc/os-release").read(),
    "pip": subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True).stdout,
}, sort_keys=True))
"""


def launcher(*args: str | Path, cwd: Path, cache: Cache, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "LAUNCHER_CACHE": str(cache.root), "LAUNCHER_STORE": str(cwd / "store"), **env},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    """A locked project, its artifacts in the shared cache."""
    folder = tmp_path_factory.mktemp("engines")
    (folder / "experiment.yaml").write_text(SPEC)
    done = launcher("lock", cwd=folder, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def lock(project: Path) -> Lock:
    return load(project / "experiment.lock")


@pytest.fixture(scope="module")
def image(lock: Lock, shared_cache: Cache) -> Image:
    return build(lock, shared_cache)


@pytest.fixture(scope="module")
def archive(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("archive") / "image.tar"
    write_archive(image, out)
    return out


@pytest.fixture(scope="module")
def from_sandbox(project: Path, shared_cache: Cache) -> dict[str, object]:
    """Return what the program prints in the sandbox."""
    done = launcher("run", "--runtime", "sandbox", "-p", f"script={SCRIPT}", cwd=project, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_skopeo_reads_the_layout(archive: Path, image: Image, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
    for source in (f"oci:{layout}", f"oci-archive:{archive}", f"docker-archive:{archive}"):
        said = subprocess.run(
            ["skopeo", "inspect", "--config", "--raw", source], capture_output=True, check=True
        ).stdout
        assert json.loads(said) == json.loads(image.config)
    copied = tmp_path / "copied"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}", f"dir:{copied}"], check=True)
    manifest = json.loads((copied / "manifest.json").read_text())
    assert manifest["config"]["digest"] == f"sha256:{image.id}"
    assert [layer["digest"] for layer in manifest["layers"]] == image.diff_ids


def test_umoci_unpacks_it(archive: Path, image: Image, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
    tag = image.id[:12]
    subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{layout}:{tag}", tmp_path / "bundle"], check=True)
    root = tmp_path / "bundle" / "rootfs"
    assert (root / "usr/bin/jq").stat().st_mode & 0o777 == 0o755
    assert (root / "opt/env/bin/python").readlink() == Path("/usr/bin/python3.11")
    assert (root / "bin").readlink() == Path("usr/bin")


def test_docker_prints_what_the_sandbox_prints(
    image: Image, docker_engine: str, from_sandbox: dict[str, object], archive: Path
) -> None:
    import docker

    client = docker.DockerClient(base_url=docker_engine, timeout=300)
    try:
        assert load_into_docker(image, client) == image.tag
        inspected = client.api.inspect_image(image.tag)
        assert inspected["RootFS"]["Layers"] == image.diff_ids
        said = client.containers.run(image.tag, ["python", "-c", SCRIPT], remove=True, network_mode="none")
        by_docker = json.loads(said)
    finally:
        client.close()
    searched = from_sandbox["path"]
    assert isinstance(searched, list)
    assert searched.pop(0) == "/opt/launcher/lib", "where launcher.train is, and nothing else, is added"
    assert by_docker == from_sandbox
    assert by_docker["sum"] == 45.0
    assert by_docker["jq"] == "2\n"
    assert by_docker["pip"] == "No broken requirements found.\n"
    assert by_docker["prefix"] == "/opt/env"
    assert by_docker["greeting"] == 'it\'s $HOME "quoted"'


def test_docker_load_takes_the_file(archive: Path, image: Image, docker_engine: str) -> None:
    done = subprocess.run(
        ["docker", "-H", docker_engine, "load", "-i", archive], capture_output=True, text=True, check=True
    )
    assert image.tag in done.stdout


def test_rebuild_without_a_network(project: Path, image: Image, shared_cache: Cache, tmp_path: Path) -> None:
    """The vault and the lock are enough: an empty cache, another folder, no index that answers, no apt, no pip."""
    vault = tmp_path / "vault"
    done = launcher("vault", "add", "experiment.lock", "--to", vault, cwd=project, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    shutil.copy(project / "experiment.lock", elsewhere / "old.lock")
    cut_off = [str(shutil.which("unshare")), "--user", "--map-root-user", "--net"]
    args = [sys.executable, "-m", "launcher", "rebuild", "old.lock", "--from", str(vault), "--offline"]
    env = {**os.environ, "LAUNCHER_CACHE": str(tmp_path / "empty"), "PATH": "/nonexistent", "HOME": str(elsewhere)}
    done = subprocess.run([*cut_off, *args], cwd=elsewhere, env=env, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (f"identical sha256:{image.id}\n", 0), done.stderr


def test_rebuild_names_what_is_missing(project: Path, tmp_path: Path) -> None:
    done = launcher("rebuild", "experiment.lock", "--offline", cwd=project, cache=Cache(tmp_path / "empty"))
    assert done.returncode == 69
    assert "error: base-files 12." in done.stderr
    assert "Traceback" not in done.stderr
    assert "--from STORE" in done.stderr
    told = launcher("rebuild", "experiment.lock", "--offline", "--json", cwd=project, cache=Cache(tmp_path / "empty"))
    problems = json.loads(told.stderr)["error"]["problems"]
    assert any(problem["message"].startswith("jq 1.6") for problem in problems)


def test_rebuild_says_which_path_differs(project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path) -> None:
    """A lock that tells of another image: the list of files that it names is found in the vault."""
    assert lock.image
    [python] = [layer for layer in lock.image.layers if layer.name == "python"]
    expected = shared_cache.path("artifacts", python.listing).read_bytes()
    other = expected.replace(b'["opt/env/pyvenv.cfg","file",420,', b'["opt/env/pyvenv.cfg","file",384,')
    kept = tmp_path / "vault" / "artifacts" / "sha256" / sha256_bytes(other)[:2] / sha256_bytes(other)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(other)
    text = (project / "experiment.lock").read_text()
    for old, new in ((python.diff_id, "0" * 64), (python.listing, sha256_bytes(other)), (lock.image.id, "1" * 64)):
        text = text.replace(old, new)
    (tmp_path / "wrong.lock").write_text(text)
    done = launcher("rebuild", "wrong.lock", "--from", tmp_path / "vault", cwd=tmp_path, cache=Cache(tmp_path / "c"))
    assert done.returncode == 1, done.stderr
    assert done.stdout == (
        f"different: built sha256:{lock.image.id}, the lock says sha256:{'1' * 64}\n"
        "layer python\n  /opt/env/pyvenv.cfg: mode 0600 became 0644\n"
    )


def test_locking_again_changes_nothing_and_check_says_so(project: Path, shared_cache: Cache) -> None:
    before = (project / "experiment.lock").read_bytes()
    assert launcher("lock", cwd=project, cache=shared_cache).returncode == 0
    assert (project / "experiment.lock").read_bytes() == before
    done = launcher("lock", "--check", cwd=project, cache=shared_cache)
    assert (done.returncode, done.stdout) == (0, "experiment.lock fits experiment.yaml\n")


def test_a_lock_holds_no_url_no_host_no_path(project: Path) -> None:
    text = (project / "experiment.lock").read_text()
    assert "://" not in text
    assert str(project) not in text
    assert not any(line.split(" = ")[-1].startswith('"/') for line in text.splitlines())


CANARIES = ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "HF_TOKEN", "SSH_AUTH_SOCK", "MY_PASSWORD")


def test_secrets_of_the_environment_reach_neither_program_nor_store_nor_cache(
    project: Path, shared_cache: Cache, tmp_path: Path
) -> None:
    canary = "canary-" + "5e5a" * 8
    script = "import os, subprocess; print(dict(os.environ)); subprocess.run('cat /proc/*/environ', shell=True)"
    args = ("-v", "run", "--runtime", "sandbox", "--store", tmp_path / "store", "-p", f"script={script}")
    done = launcher(*args, cwd=project, cache=shared_cache, **dict.fromkeys(CANARIES, canary))
    assert done.returncode == 0, done.stderr
    assert "LAUNCHER_RUN_ID" in done.stdout
    assert canary not in done.stdout + done.stderr
    for folder in (tmp_path / "store", shared_cache.root / "runs", shared_cache.root / "notes"):
        found = subprocess.run(["grep", "-rlF", canary, folder], capture_output=True, text=True)
        assert (found.returncode, found.stdout) == (1, ""), found.stderr
    assert canary not in (project / "experiment.lock").read_text()
