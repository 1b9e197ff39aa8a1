"""The target `local` through a real Docker engine: the same files, environment, signals and codes as in the sandbox."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from launcher import records, store, target
from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image.oci import Image
from launcher.store import keys
from launcher.target.docker import name_of
from launcher.target.model import Ending
from tests.attempts import wait_for
from tests.rootfs import tiny_image
from tests.test_target_local import Desk

pytestmark = pytest.mark.services

LOOK = """
import json, os, sys
TRIED = ["", "/usr", "/workspace", "/data", "/data/in", "/tmp", "/run/launcher/home", "/dev/shm"]
def look(path):
    info = os.stat(path)
    return info.st_mode, info.st_size, info.st_mtime
def tried(path):
    try:
        open(path + "/probe", "w").close()
        os.unlink(path + "/probe")
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
seen = {
    "env": {k: v for k, v in os.environ.items() if k not in ("LAUNCHER_RUN_ID",)},
    "cwd": os.getcwd(), "ids": [os.getuid(), os.getgid()], "umask": os.umask(0),
    "root": sorted(set(os.listdir("/")) - {".dockerenv", "sbin"}),
    "workspace": sorted((path, *look(path)) for path in os.listdir(".")),
    "data": sorted(os.listdir("/data")), "run": sorted(os.listdir("/run/launcher")),
    "usr": sorted((path, os.stat("/usr/bin/" + path).st_size) for path in os.listdir("/usr/bin")),
    "writable": [path for path in TRIED if tried(path)],
    "capabilities": [status["CapEff"].strip(), status["CapBnd"].strip()],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "passwd": open("/etc/passwd").read(), "hostname": os.uname().nodename,
    "shared": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize > 1e9,
    "executes": not os.statvfs("/tmp").f_flag & os.ST_NOEXEC,
}
json.dump(seen, open(os.environ["LAUNCHER_OUTPUT_DIR"] + "/seen.json", "w"))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("docker-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache, mount_points=True)


@pytest.fixture
def desk(cache: Cache, image: Image, tmp_path: Path, docker_engine: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("DOCKER_HOST", docker_engine)
    return Desk(cache, image, tmp_path)


def test_docker_shows_what_the_sandbox_shows(desk: Desk) -> None:
    (desk.code / "a b.py").write_text("x")
    (desk.folder / "in").mkdir()
    seen = []
    for runtime in ("sandbox", "docker"):
        work = desk.work("python3", "-c", LOOK, paths={"in": desk.folder / "in"})
        assert desk.run(work, runtime) == Ending(code=0)
        seen.append(json.loads(store.open(str(desk.store)).get(keys.output(work.job.run, 1, "seen.json"))))
    assert seen[0] == seen[1]
    assert seen[0]["writable"] == ["/tmp", "/run/launcher/home", "/dev/shm"]


@pytest.mark.parametrize("code", [0, 42, 137])
def test_codes_and_output(desk: Desk, capfdbinary: pytest.CaptureFixture[bytes], code: int) -> None:
    script = f"import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.write('err'); sys.exit({code})"
    work = desk.work("python3", "-c", script)
    assert desk.run(work, "docker") == Ending(code=code)
    out, err = capfdbinary.readouterr()
    assert (out, err) == (bytes(range(256)), b"err")
    assert records.load(store.open(str(desk.store)), work.job.run).exit["code"] == code


def test_signals_and_removal(desk: Desk) -> None:
    import docker

    ready = "open(os.environ['LAUNCHER_OUTPUT_DIR'] + '/ready', 'w').close()"
    script = f"import os, signal, sys; signal.signal(15, lambda *_: sys.exit(7)); {ready}; signal.pause()"
    work = desk.work("python3", "-c", script)
    place = desk.cache.root / "runs" / work.job.run / "inside" / "outputs" / "ready"
    local = target.open("local", desk.cache, runtime="docker")
    records.submit(store.open(str(desk.store)), work.job_json())
    process = local.start(work)
    client = docker.from_env()
    assert client.containers.get(name_of(work.job.run)).labels["launcher.run"] == work.job.run
    threading.Thread(target=lambda: (wait_for(place.exists), process.signal(15))).start()
    assert process.wait() == Ending(code=7)
    assert client.containers.list(all=True) == []
    client.close()


def test_what_a_killed_client_leaves_is_found(desk: Desk) -> None:
    import docker

    work = desk.work("python3", "-c", "import time; time.sleep(60)")
    first = target.open("local", desk.cache, runtime="docker").start(work)
    os.close(first.held)  # as the death of its process would
    with pytest.raises(TargetError, match="is still running, in the container"):
        target.open("local", desk.cache, runtime="docker").start(work)
    client = docker.from_env()
    left = client.containers.get(name_of(work.job.run))
    left.kill()
    left.wait()
    again = desk.work("true")
    assert desk.run(again, "docker").exit_code in (0, 127)
    client.containers.get(name_of(work.job.run)).remove(force=True)
    client.close()
