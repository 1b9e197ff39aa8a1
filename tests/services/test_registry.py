"""A real registry: pushed to, pulled from by Docker, Podman and skopeo, cut off, lied for, and closed by a password."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_file
from launcher.errors import IntegrityError
from launcher.fetch import fetch
from launcher.image import Image, build
from launcher.lock import Artifact, load
from launcher.registry.pull import PulledManifest, manifest
from launcher.registry.push import push
from launcher.registry.reference import parse
from launcher.registry.source import RegistrySource
from tests.patience import LONG_S
from tests.registries import PASSWORD, USER, Proxy, proxy

pytestmark = pytest.mark.services

SPEC = """
name: registry
image:
  base: debian:bookworm
  python: "3.11"
  pip: [{pip}]
run: [python, -c, "print(1)"]
"""
REQUIREMENTS = ["numpy>=1.26", "pyyaml>=6"]
SCRIPT = "import json, numpy, yaml; print(json.dumps([numpy.__version__, yaml.__version__]))"


def launcher(*args: str | Path, cwd: Path, cache: Cache, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "LAUNCHER_CACHE": str(cache.root), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def lock(folder: Path, cache: Cache, name: str, pip: list[str]) -> Path:
    """Write a spec and lock it; return the lock."""
    (folder / f"{name}.yaml").write_text(SPEC.format(pip=", ".join(f'"{line}"' for line in pip)))
    done = launcher("lock", f"{name}.yaml", cwd=folder, cache=cache)
    assert done.returncode == 0, done.stderr
    return folder / f"{name}.lock"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    folder = tmp_path_factory.mktemp("registry-project")
    lock(folder, shared_cache, "one", REQUIREMENTS)
    return folder


@pytest.fixture(scope="module")
def image(project: Path, shared_cache: Cache) -> Image:
    return build(load(project / "one.lock"), shared_cache)


def pushed(project: Path, cache: Cache, ref: str, *args: str, name: str = "one", **env: str) -> dict[str, Any]:
    """Push by the command line; return what it says of it."""
    done = launcher("build", f"{name}.lock", "--push", ref, "--json", *args, cwd=project, cache=cache, **env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["push"])


@pytest.fixture(scope="module")
def there(project: Path, shared_cache: Cache, registry: str) -> str:
    """The name of the image, which is in the registry."""
    pushed(project, shared_cache, f"{registry}/team/one:1")
    return f"{registry}/team/one:1"


@pytest.fixture
def before(registry: str) -> Iterator[Proxy]:
    with proxy(registry) as one:
        yield one


def run(*args: str) -> str:
    done = subprocess.run(args, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_docker_pulls_the_locks_image_and_runs_it(there: str, image: Image, docker_engine: str) -> None:
    docker = ("docker", "-H", docker_engine)
    run(*docker, "pull", "-q", there)
    inspected = json.loads(run(*docker, "image", "inspect", there))[0]
    assert inspected["RootFS"]["Layers"] == image.diff_ids
    driver = json.loads(run(*docker, "info", "--format", "{{json .DriverStatus}}"))
    if ["driver-type", "io.containerd.snapshotter.v1"] not in driver:  # there `Id` is the manifest's digest
        assert inspected["Id"] == f"sha256:{image.id}"
    said = run(*docker, "run", "--rm", "--network", "none", there, "python", "-c", SCRIPT)
    assert len(json.loads(said)) == 2
    run(*docker, "rmi", there)


@pytest.fixture(scope="module")
def podman() -> Iterator[tuple[str, ...]]:
    """A storage of its own; Podman bears no long path for its runroot."""
    with tempfile.TemporaryDirectory(prefix="podman-", ignore_cleanup_errors=True) as place:
        yield ("podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "vfs")


def test_podman_pulls_the_locks_image(there: str, image: Image, podman: tuple[str, ...]) -> None:
    assert run(*podman, "pull", "-q", "--tls-verify=false", there).strip() == image.id


def test_skopeo_reads_config_and_layers(there: str, image: Image, tmp_path: Path) -> None:
    raw = run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{there}")
    assert json.loads(raw)["config"]["digest"] == f"sha256:{image.id}"
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{there}", f"dir:{tmp_path}/copy")
    assert (tmp_path / "copy" / image.id).read_bytes() == image.config


def test_the_second_push_sends_nothing_and_another_tag_only_the_manifest(
    there: str, project: Path, shared_cache: Cache, registry: str
) -> None:
    again = pushed(project, shared_cache, there)
    assert (again["sent_bytes"], again["manifest_sent"]) == (0, False)
    other = pushed(project, shared_cache, f"{registry}/team/one:2")
    assert (other["sent_bytes"], other["manifest_sent"]) == (0, True)
    assert other["digest"] == again["digest"]


def test_one_changed_small_wheel_sends_the_layer_of_small_wheels(
    there: str, project: Path, shared_cache: Cache
) -> None:
    lock(project, shared_cache, "two", [*REQUIREMENTS, "six"])
    told = pushed(project, shared_cache, there.replace("one:1", "one:six"), name="two")
    sent = [blob["name"] for blob in told["blobs"] if blob["fate"] == "sent"]
    assert sent == ["python", "config"]
    assert told["sent_bytes"] < 1_000_000 < told["skipped_bytes"]


def test_the_command_says_what_it_sent(there: str, project: Path, shared_cache: Cache) -> None:
    done = launcher("build", "one.lock", "--push", there, cwd=project, cache=shared_cache)
    assert f"pushed {there}: sent 0 B in 0 blobs" in done.stdout
    assert f"pull it as {there.rpartition(':')[0]}@sha256:" in done.stdout


def test_a_name_without_a_registry_is_refused_before_anything_is_built(project: Path, shared_cache: Cache) -> None:
    done = launcher("build", "one.lock", "--push", "team/one", cwd=project, cache=shared_cache)
    assert (done.returncode, done.stdout) == (2, "")
    assert "docker.io/team/one" in done.stderr


def base_artifacts(found: PulledManifest) -> list[Artifact]:
    return [
        Artifact(name="base", version="", filename=f"layer {number} of the base", size=one.size, sha256=one.digest)
        for number, one in enumerate((found.config, *found.layers))
    ]


def test_a_pull_that_is_cut_goes_on(there: str, before: Proxy, cache: Cache) -> None:
    name = parse(there.replace(there.partition("/")[0], before.host))
    wanted = base_artifacts(manifest(name, "linux/amd64", cache))
    biggest = max(artifact.size for artifact in wanted)
    before.down, before.cut_down = 0, [biggest // 2, biggest // 3]
    paths = fetch(wanted, cache, [RegistrySource(name)])
    assert before.cuts == 2
    assert all(sha256_file(path)[0] == sha256 for sha256, path in paths.items())
    assert before.down < sum(artifact.size for artifact in wanted) * 1.02 + 500_000


KILLED = """
import os, pathlib, sys
from launcher.cache import Cache
from launcher.fetch import fetch
from launcher.lock import Artifact
from launcher.progress import Silent, SilentTask
from launcher.registry.reference import parse
from launcher.registry.source import RegistrySource

root, name, sha256, size = sys.argv[1:]

class Killer(SilentTask):
    seen = 0

    def advance(self, amount=1):
        self.seen += amount
        if self.seen > int(size) // 2:
            os.kill(os.getpid(), 9)

class Bars(Silent):
    def task(self, *_):
        return Killer()

wanted = Artifact(name="base", version="", filename="layer", size=int(size), sha256=sha256)
fetch([wanted], Cache(pathlib.Path(root)), [RegistrySource(parse(name))], Bars())
"""


def test_a_pull_that_was_killed_goes_on_in_the_next_command(there: str, before: Proxy, cache: Cache) -> None:
    name = parse(there.replace(there.partition("/")[0], before.host))
    biggest = max(base_artifacts(manifest(name, "linux/amd64", cache)), key=lambda one: one.size)
    args = [sys.executable, "-c", KILLED, str(cache.root), str(name), biggest.sha256, str(biggest.size)]
    assert subprocess.run(args, timeout=LONG_S).returncode == -9
    before.down = 0
    fetch([biggest], cache, [RegistrySource(name)])
    assert before.down < biggest.size * 0.6


def test_a_push_that_is_cut_goes_on(image: Image, before: Proxy, shared_cache: Cache) -> None:
    """This registry (2.8) forgets an upload that is cut, so the blob in question goes again; no other does."""
    whole = push(image, parse(f"{before.host}/team/whole:1"), shared_cache, workers=1)
    biggest = max(blob.size for blob in whole.blobs)
    before.up, before.cut_up = 0, [biggest // 2]
    told = push(image, parse(f"{before.host}/team/cut:1"), shared_cache, workers=1)
    assert (before.cuts, told.digest) == (1, whole.digest)
    assert before.up < whole.sent_bytes + biggest + 500_000
    assert manifest(parse(f"{before.host}/team/cut:1"), "linux/amd64", shared_cache).config.digest == image.id


def test_a_registry_that_lies_about_a_blob_is_refused(there: str, before: Proxy, cache: Cache) -> None:
    name = parse(there.replace(there.partition("/")[0], before.host))
    wanted = base_artifacts(manifest(name, "linux/amd64", cache))
    before.change = lambda data: data if data.startswith(b"HTTP/") else bytes([data[0] ^ 1]) + data[1:]
    with pytest.raises(IntegrityError, match=r"gave a wrong layer \d of the base") as error:
        fetch(wanted, cache, [RegistrySource(name)])
    assert before.host in str(error.value)


def logins(folder: Path, host: str, password: str) -> dict[str, str]:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(folder), "HOME": str(folder)}


def test_a_registry_behind_a_password(
    project: Path, shared_cache: Cache, registry_with_login: str, image: Image, tmp_path: Path
) -> None:
    ref = f"{registry_with_login}/team/one:1"
    args = ("build", "one.lock", "--push", ref)
    without = launcher(*args, cwd=project, cache=shared_cache, HOME=str(tmp_path))
    assert without.returncode == 69
    assert f"wants a login for {registry_with_login}/team/one" in without.stderr
    wrong = launcher(
        "-vv", *args, cwd=project, cache=shared_cache, **logins(tmp_path, registry_with_login, "wr0ng-one")
    )
    assert wrong.returncode == 69
    assert f"refused the login of {tmp_path}/config.json" in wrong.stderr
    assert "wr0ng-one" not in wrong.stderr
    env = logins(tmp_path, registry_with_login, PASSWORD)
    assert pushed(project, shared_cache, ref, **env)["manifest_sent"]
    assert manifest(parse(ref), "linux/amd64", shared_cache, environ={**os.environ, **env}).config.digest == image.id


def test_zstd_is_read_by_those_who_can(
    project: Path,
    shared_cache: Cache,
    registry: str,
    image: Image,
    tmp_path: Path,
    docker_engine: str,
    podman: tuple[str, ...],
) -> None:
    told = pushed(project, shared_cache, f"{registry}/team/zstd:1", "--compression", "zstd")
    assert told["sent_bytes"] > 1_000_000
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{registry}/team/zstd:1", f"dir:{tmp_path}/copy")
    kinds = {layer["mediaType"] for layer in json.loads((tmp_path / "copy/manifest.json").read_text())["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    assert run(*podman, "pull", "-q", "--tls-verify=false", f"{registry}/team/zstd:1").strip() == image.id
    pull = ["docker", "-H", docker_engine, "pull", "-q", f"{registry}/team/zstd:1"]
    done = subprocess.run(pull, capture_output=True, text=True, timeout=300)
    version = run("docker", "-H", docker_engine, "version", "--format", "{{.Server.Version}}").strip()
    if done.returncode and int(version.partition(".")[0]) < 23:
        pytest.skip(f"Docker {version} reads no zstd: {done.stderr.strip()}; Podman and skopeo did")
    assert done.returncode == 0, done.stderr
