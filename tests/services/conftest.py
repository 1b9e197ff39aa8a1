"""Real services that the tests start for themselves, on sockets and in folders of their own."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from tests.boxes import boxes as boxes
from tests.clusters import cluster as cluster
from tests.patience import LONG_S
from tests.registries import docker_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a registry that anybody may read and write; give its "127.0.0.1:PORT"."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def registry_with_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a registry that wants the login of tests.registries."""
    with docker_registry(tmp_path_factory.mktemp("registry-login"), login=True) as host:
        yield host


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[str]:
    """Start a Docker engine; give its URL for DOCKER_HOST. It has no bridge, so containers get the host's network."""
    if os.getuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("needs root and dockerd (Debian: docker.io, iptables)")
    home = Path(tempfile.mkdtemp(prefix="dockerd-"))
    url = f"unix://{home}/docker.sock"
    (home / "engine.json").write_text("{}")  # and not what this machine's own engine is configured by
    with (home / "log").open("wb") as log:
        engine = subprocess.Popen(command(home, url), stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_it_answers(url, engine, home / "log")
        yield url
    finally:
        end(engine)
        subprocess.run(["umount", f"{home}/exec/netns/default"], capture_output=True)  # which it leaves behind
        shutil.rmtree(home, ignore_errors=True)


def command(home: Path, url: str) -> list[str]:
    places = ["--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid", "-H", url]
    return ["dockerd", *places, "--bridge=none", "--iptables=false", "--config-file", f"{home}/engine.json"]


def wait_until_it_answers(url: str, engine: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(LONG_S * 10):
        if engine.poll() is not None:
            break
        if answers(url):
            return
        time.sleep(0.1)
    engine.kill()
    pytest.fail("the Docker engine did not start:\n" + log.read_text(errors="replace")[-2000:])


def answers(url: str) -> bool:
    """Ask by a socket of our own: the SDK leaves one open when nobody answers, and pytest minds."""
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(url.removeprefix("unix://"))
            asked.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in asked.recv(64)
        except OSError:
            return False


@pytest.fixture(scope="session")
def apptainer(shared_cache: Cache) -> Iterator[Path]:
    """Give a real Apptainer that every user may run: this machine's own, or Debian's in a folder of the tests."""
    if (own := shutil.which("apptainer")) is not None:
        yield Path(own)
        return
    if platform.machine() != "x86_64" or not shutil.which("dpkg-deb"):
        pytest.skip("there is no apptainer, and it can't be had here (needs Debian on x86-64)")
    from tests.services.apptainer_install import installed

    program = installed(shared_cache)
    home = Path(tempfile.mkdtemp(prefix="apptainer-"))
    shutil.copytree(program.parents[1], home, dirs_exist_ok=True, symlinks=True)  # the cache may lie in a closed folder
    home.chmod(0o755)
    yield home / "bin" / program.name
    shutil.rmtree(home)


def end(engine: subprocess.Popen[bytes]) -> None:
    engine.send_signal(signal.SIGTERM)
    try:
        engine.wait(30)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()
