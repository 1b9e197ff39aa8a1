"""A base in a real registry: locked, pulled, built upon, run in the sandbox and in Docker, and made again later."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image import Image, build
from launcher.image.export import load_into_docker, write_archive
from launcher.lock import Lock, load
from tests.services.test_image_engines import launcher

pytestmark = pytest.mark.services

BASE = """
name: base
image:
  base: debian:bookworm
  python: "3.11"
  apt: [{apt}]
  env: {{OF_BASE: "yes", PATH: "/usr/local/bin:/usr/bin:/bin"}}
run: "true"
"""
SPEC = """
name: over
image:
  base: docker://{host}/team/base:1
  pip: [pyyaml, six]
  env: {{OF_SPEC: "it's $HOME"}}
run: [python, -c, "{{script}}"]
params: {{script: "print(1)"}}
"""
SCRIPT = """
import json, os, sys, six, yaml
print(json.dumps({
    "yaml": yaml.__file__, "six": six.__file__, "prefix": sys.prefix, "executable": sys.executable, "cwd": os.getcwd(),
    "env": [os.environ[name] for name in ("OF_BASE", "OF_SPEC", "PATH")],
    "files": sorted(os.listdir("/")),
}, sort_keys=True))
"""


def push_base(folder: Path, cache: Cache, host: str, apt: str) -> str:
    """Put an image of ours into the registry, compressed by skopeo; return its tag."""
    folder.mkdir()
    (folder / "experiment.yaml").write_text(BASE.format(apt=apt))
    done = launcher("lock", cwd=folder, cache=cache)
    assert done.returncode == 0, done.stderr
    write_archive(build(load(folder / "experiment.lock"), cache), folder / "base.tar")
    to = f"docker://{host}/team/base:1"
    args = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{folder / 'base.tar'}", to]
    subprocess.run(args, check=True, timeout=300)
    return to


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache, registry: str) -> Path:
    """A project locked over a base, whose tag has moved since."""
    folder, bases = tmp_path_factory.mktemp("over"), tmp_path_factory.mktemp("bases")
    push_base(bases / "one", shared_cache, registry, "python3-yaml")
    (folder / "experiment.yaml").write_text(SPEC.format(host=registry))
    done = launcher("lock", cwd=folder, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    push_base(bases / "two", shared_cache, registry, "jq")
    return folder


@pytest.fixture(scope="module")
def lock(project: Path) -> Lock:
    return load(project / "experiment.lock")


@pytest.fixture(scope="module")
def image(lock: Lock, shared_cache: Cache) -> Image:
    return build(lock, shared_cache)


def test_the_lock_tells_of_the_base(lock: Lock) -> None:
    assert lock.base is not None
    assert (lock.base.system, lock.suite, lock.libc) == ("debian", "bookworm", "glibc 2.36")
    assert (lock.python or "").startswith("3.11.")
    assert [wheel.name for wheel in lock.wheels] == ["six"], "pyyaml is the base's"
    assert {layer.media_type for layer in lock.base.layers} == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_the_sandbox_and_docker_show_the_same(
    project: Path, shared_cache: Cache, image: Image, docker_engine: str
) -> None:
    import docker

    done = launcher("run", "--runtime", "sandbox", "-p", f"script={SCRIPT}", cwd=project, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    by_sandbox = json.loads(done.stdout)
    client = docker.DockerClient(base_url=docker_engine, timeout=300)
    try:
        load_into_docker(image, client)
        said = client.containers.run(image.tag, ["python", "-c", SCRIPT], remove=True, network_mode="none")
    finally:
        client.close()
    by_docker = json.loads(said)
    assert by_sandbox["env"] == by_docker["env"] == ["yes", "it's $HOME", "/opt/env/bin:/usr/local/bin:/usr/bin:/bin"]
    assert by_docker["yaml"].startswith("/usr/lib/python3/dist-packages/")
    assert by_docker["six"].startswith("/opt/env/")
    for key in ("yaml", "six", "prefix", "executable", "cwd"):
        assert by_sandbox[key] == by_docker[key]


def test_a_moved_tag_gives_the_same_image(project: Path, lock: Lock, tmp_path: Path) -> None:
    cold = Cache(tmp_path / "cold")
    done = launcher("build", "--frozen", "--json", cwd=project, cache=cold)
    assert done.returncode == 0, done.stderr
    assert lock.image is not None
    assert json.loads(done.stdout)["id"] == f"sha256:{lock.image.id}"
    done = launcher("lock", "--check", cwd=project, cache=cold)
    assert done.returncode == 0, done.stderr


def test_a_vault_rebuilds_it_without_a_network(project: Path, shared_cache: Cache, tmp_path: Path) -> None:
    store = tmp_path / "vault"
    done = launcher("vault", "add", "experiment.lock", "--to", store, cwd=project, cache=shared_cache)
    assert done.returncode == 0, done.stderr
    cold = Cache(tmp_path / "cold")
    done = launcher("rebuild", "--offline", "--from", store, "experiment.lock", cwd=project, cache=cold)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical sha256:")
