"""One image in Docker, Podman, Apptainer and the sandbox: the same files, environment and folder, no host in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from launcher.image import Image, build
from launcher.image.export import write_archive
from launcher.image.sif import sif, squashfs
from launcher.lock import load
from tests.patience import LONG_S
from tests.services.podman_places import CONTAINERS, STORAGE, lacks

pytestmark = pytest.mark.services

SPEC = r"""
name: same
image:
  base: debian:bookworm
  python: "3.11"
  apt: [jq]
  pip: ["pyyaml>=6", "packaging"]
  env:
    GREETING: "it's $HOME \"quoted\" `back` \\ slash"
    LINES: "one\ntwo = 2\n"
    SPACES: "  a  b  "
    SIGN: "ü☃"
run: [python, -c, "{script}"]
params:
  script: "print(1)"
"""
RUNTIMES = ("sandbox", "docker", "podman", "apptainer")
PLAIN = ("docker", "podman", "sif", "squashfs")
# What is not the image's, whatever runs it: the kernel's files, and where something is mounted.
MOUNTED = (
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/var/tmp",
    "/run",
    "/data",
    "/workspace",
    "/opt/launcher",
    "/var/cache/launcher",
)
# What runtimes put over files of the image, or beside them, by themselves.
PUT_OVER = {
    "/etc/resolv.conf": "all",
    "/etc/hosts": "all",
    "/etc/hostname": "Docker, Podman",
    "/etc/mtab": "Podman",
    "/.dockerenv": "Docker",
    "/usr/sbin/docker-init": "Docker, for --init",
    "/etc/passwd": "Apptainer, with its user's line; Podman too",
    "/etc/group": "Apptainer, with its user's line; Podman too",
    "/root": "Apptainer, an empty home",
    "/.singularity.d/env": "Apptainer under launcher",
}
LIST = f"""
import hashlib, json, os, stat, sys
LEFT_OUT = set({[*MOUNTED, *PUT_OVER]!r})
found, ahead = {{}}, ["/"]
while ahead:
    folder = ahead.pop()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if path in LEFT_OUT:
            continue
        info = os.lstat(path)
        kind, mode = stat.S_IFMT(info.st_mode), info.st_mode & 0o1777
        if stat.S_ISDIR(info.st_mode):
            ahead.append(path)
            found[path] = ["folder", mode, ""]
        elif stat.S_ISLNK(info.st_mode):
            found[path] = ["link", 0, os.readlink(path)]
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as stream:
                found[path] = ["file", mode, hashlib.sha256(stream.read()).hexdigest()]
        else:
            found[path] = [str(kind), mode, ""]
json.dump({{"tree": found, "env": dict(os.environ), "cwd": os.getcwd()}}, sys.stdout)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    folder = tmp_path_factory.mktemp("same")
    (folder / "experiment.yaml").write_text(SPEC)
    done = launcher("lock", cwd=folder, cache=shared_cache, env=os.environ)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def image(project: Path, shared_cache: Cache) -> Image:
    return build(load(project / "experiment.lock"), shared_cache)


@pytest.fixture(scope="module")
def surroundings(
    docker_engine: str, apptainer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """An environment in which every runtime answers."""
    if reason := lacks():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("podman")
    (place / "tmp").mkdir()
    runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else "[engine]\n"
    (place / "containers.conf").write_text(CONTAINERS.replace("[engine]\n", runtime).format(place))
    (place / "storage.conf").write_text(STORAGE.format(place))
    env = {
        **os.environ,
        "PATH": f"{apptainer.parent}:{os.environ['PATH']}",
        "DOCKER_HOST": docker_engine,
        "CONTAINERS_CONF": str(place / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
        "XDG_RUNTIME_DIR": str(place),
    }
    yield env
    subprocess.run(["podman", "rm", "--all", "--force"], env=env, capture_output=True)


def launcher(
    *args: str | Path, cwd: Path, cache: Cache, env: Mapping[str, str], timeout_s: int = 120
) -> subprocess.CompletedProcess[str]:
    own = {"LAUNCHER_CACHE": str(cache.root), "LAUNCHER_STORE": str(cwd / "store")}
    words = [sys.executable, "-m", "launcher", *map(str, args)]
    return subprocess.run(words, cwd=cwd, env={**env, **own}, capture_output=True, text=True, timeout=timeout_s)


def look(runtime: str, project: Path, cache: Cache, env: Mapping[str, str]) -> dict[str, Any]:
    done = launcher("run", "--runtime", runtime, "-p", f"script={LIST}", cwd=project, cache=cache, env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def from_sandbox(project: Path, shared_cache: Cache, surroundings: dict[str, str]) -> dict[str, Any]:
    return look("sandbox", project, shared_cache, surroundings)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def of_image(image: Image) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in json.loads(image.config)["config"]["Env"])


@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_launcher_shows_the_same(
    runtime: str,
    project: Path,
    image: Image,
    shared_cache: Cache,
    surroundings: dict[str, str],
    from_sandbox: dict[str, Any],
) -> None:
    seen = look(runtime, project, shared_cache, surroundings)
    assert len(seen["tree"]) > 3000
    assert not differences(seen["tree"], from_sandbox["tree"])
    assert seen["cwd"] == from_sandbox["cwd"] == "/workspace"
    own = {"LAUNCHER_RUN_ID", "LAUNCHER_PARAM_SCRIPT"}
    assert set(differences(seen["env"], from_sandbox["env"])) <= own
    assert not {k: v for k, v in of_image(image).items() if seen["env"][k] != v}


def plain(how: str, image: Image, cache: Cache, env: Mapping[str, str]) -> dict[str, Any]:
    """Run the image without launcher."""
    if how == "docker":
        words = ["docker", "run", "--rm", "--read-only", "--network", "host", image.tag]
    elif how == "podman":
        words = [
            "podman",
            "--log-level",
            "fatal",
            "run",
            "--rm",
            "--read-only",
            "--network",
            "host",
            "--http-proxy=false",
            image.tag,
        ]
    else:
        flags = ["--containall", "--no-home", "--no-privs", "--no-mount", "bind-paths,hostfs"]
        path = (sif if how == "sif" else squashfs)(image, cache)
        words = ["apptainer", "-q", "exec", *flags, "--pwd", "/workspace", str(path)]
    done = subprocess.run([*words, "python", "-c", LIST], env=dict(env), capture_output=True, text=True, timeout=LONG_S)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("how", PLAIN)
def test_others_show_the_same(
    how: str,
    image: Image,
    shared_cache: Cache,
    surroundings: dict[str, str],
    from_sandbox: dict[str, Any],
    tmp_path: Path,
) -> None:
    given = tmp_path / "image.tar"
    if how in ("docker", "podman"):
        write_archive(image, given)
        words = [how, "load", "-q", "-i", str(given)]
        subprocess.run(words, env=surroundings, check=True, capture_output=True, timeout=LONG_S)
    seen = plain(how, image, shared_cache, surroundings)
    assert not differences(seen["tree"], from_sandbox["tree"])
    assert seen["cwd"] == "/workspace"
    assert not {k: v for k, v in of_image(image).items() if seen["env"].get(k) != v}


INSPECT = """
import importlib.util, json, os, sys
print(json.dumps({
    "poison": importlib.util.find_spec("poison") is not None,
    "search": os.environ["PYTHONPATH"],
    "env": sorted(set(os.environ) & {"PYTHONSTARTUP", "LD_PRELOAD", "APPTAINER_BIND", "SECRET",
                                     "APPTAINERENV_LEAK", "LEAK", "PYTHONUSERBASE"}),
    "home": os.path.exists(HOST_HOME), "bound": os.path.exists("/mnt/experiment.yaml"), "HOME": os.environ["HOME"],
    "files": sorted(os.listdir(".")),
}))
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_of_the_host_is_seen(
    runtime: str, project: Path, shared_cache: Cache, surroundings: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    packages = home / ".local/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (packages / "poison.py").write_text("")
    (tmp_path / "poison.py").write_text("")
    host = {
        "HOME": str(home),
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "poison.py"),
        "PYTHONUSERBASE": str(home / ".local"),
        "LD_PRELOAD": "/nonexistent.so",
        "SECRET": "1",
        "APPTAINER_BIND": f"{project}:/mnt",
        "SINGULARITY_BIND": f"{project}:/mnt",
        "APPTAINERENV_LEAK": "1",
        "SINGULARITYENV_LEAK": "1",
    }
    script = INSPECT.replace("HOST_HOME", repr(str(home)))
    words = ["run", "--runtime", runtime, "-p", f"script={script}"]
    done = launcher(*words, cwd=project, cache=shared_cache, env={**surroundings, **host})
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["search"] == "/opt/launcher/lib", "launcher's own, and nothing of the host's"
    assert not seen["poison"] and seen["env"] == [] and not seen["home"] and not seen["bound"]
    assert seen["HOME"] == "/run/launcher/home"
    assert "experiment.yaml" in seen["files"] and "poison.py" not in seen["files"]
