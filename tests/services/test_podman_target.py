"""The target `local` through a real Podman, as root and as an ordinary user: the same as in the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import records, store
from launcher.cache import Cache
from launcher.image.oci import Image
from launcher.store import keys
from launcher.target.docker import name_of
from launcher.target.model import Container, Ending
from launcher.target.podman import Podman
from tests.patience import LONG_S
from tests.rootfs import tiny_image
from tests.services.podman_places import USER, Place, lacks
from tests.services.test_docker_target import LOOK

pytestmark = pytest.mark.services

WAITS = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    if reason := lacks():
        if os.environ.get("CI") and shutil.which("podman"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Cache(tmp_path_factory.mktemp("podman-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache, mount_points=True)


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def place(request: pytest.FixtureRequest, cache: Cache, image: Image) -> Iterator[Place]:
    made = Place(image, cache.root, rootless=request.param != "root")
    yield made
    made.close()


def run_name(name: str) -> str:
    return f"20260304-050607-{name}-abcdef"


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    out, err = process.communicate(timeout=LONG_S)
    return process.returncode, out, err.decode()


def up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"up\n", process.stderr.read().decode()


def test_podman_shows_what_the_sandbox_shows(place: Place) -> None:
    (place.folder / "code" / "a b.py").write_text("x")
    seen = []
    for runtime in ("sandbox", "podman"):
        run = run_name(f"look-{runtime}")
        code, _, said = ended(place.start(run, "python3", "-c", LOOK, runtime=runtime))
        assert code == 0, said
        seen.append(json.loads(store.open(str(place.folder / "store")).get(keys.output(run, 1, "seen.json"))))
    assert seen[0] == seen[1]
    assert seen[1]["writable"] == ["/tmp", "/run/launcher/home", "/dev/shm"]
    assert seen[1]["ids"] == ([USER, USER] if place.rootless else [0, 0])
    assert (place.folder / "store" / keys.output(run, 1, "seen.json")).stat().st_uid == seen[1]["ids"][0]


@pytest.mark.parametrize("code", [42, 125, 137])
def test_codes_and_output(place: Place, code: int) -> None:
    script = f"import sys; sys.stdout.buffer.write(bytes(range(256)) * 9999); sys.stderr.write('err'); sys.exit({code})"
    run = run_name(f"code-{code}")
    got, out, said = ended(place.start(run, "python3", "-c", script))
    assert (got, out) == (code, bytes(range(256)) * 9999)
    assert said.startswith(f"err{run}: failed")  # the second half is the launcher's own line
    assert records.load(store.open(str(place.folder / "store")), run).exit["code"] == code
    assert place.podman("ps", "--all", "--quiet") == ""


def test_second_run_loads_nothing(place: Place) -> None:
    assert ended(place.start(run_name("first"), "python3", "-c", "print(1)"))[:2] == (0, b"1\n")
    layers = place.folder / "cache" / "blobs"
    layers.rename(place.folder / "away")
    try:
        assert ended(place.start(run_name("second"), "python3", "-c", "print(2)"))[:2] == (0, b"2\n")
    finally:
        shutil.rmtree(layers, ignore_errors=True)
        (place.folder / "away").rename(layers)


def test_signals_and_removal(place: Place) -> None:
    run = run_name("signals")
    process = place.start(run, "python3", "-c", WAITS)
    up(process)
    assert place.podman("ps", "--format", "{{.Names}} {{.Labels}}") == f"{name_of(run)} map[launcher.run:{run}]\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 7
    assert place.podman("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize("place", ["root"], indirect=True)  # as it is started in this process
@pytest.mark.parametrize(("number", "told"), [(signal.SIGTERM, 7), (signal.SIGKILL, 137)])
def test_a_signal_right_after_the_start(
    place: Place, image: Image, monkeypatch: pytest.MonkeyPatch, number: int, told: int
) -> None:
    """The kernel drops what process 1 has no handler for, and nothing else would send it again."""
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    script = "import signal, sys, time; time.sleep(0.5); signal.signal(15, lambda *_: sys.exit(7)); signal.pause()"
    container = Container(
        run=run_name(f"early-{told}"),
        image=image,
        argv=("python3", "-c", script),
        env={"PATH": "/usr/bin:/bin"},
        mounts=(),
        user=0,
        group=0,
        cwd="/",
    )
    process = Podman(Cache(place.folder / "cache")).start(container)
    process.signal(number)
    assert process.wait() == Ending(code=told)


def test_a_killed_podman_process_is_no_end(place: Place) -> None:
    run = run_name("blinded")
    process = place.start(run, "python3", "-c", WAITS)
    up(process)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    time.sleep(0.5)
    assert process.poll() is None
    place.podman("kill", "--signal", "15", name_of(run))
    assert ended(process)[0] == 7


def test_what_a_killed_launcher_leaves_is_found(place: Place) -> None:
    run = run_name("left")
    script = "import os; os.environ['LAUNCHER_ATTEMPT'] == '3' and sys.exit(3)"
    argv = ("python3", "-c", WAITS.replace("; print", f"; {script}; print"))
    process = place.start(run, *argv)
    up(process)
    with process:  # which closes its pipes; the podman process lives on and holds their other ends
        process.kill()
    code, _, said = ended(place.start(run, *argv, attempt=2))
    assert code != 0
    assert f"an attempt of {run} is still running on this machine, although what started it is gone" in said
    place.podman("stop", name_of(run))
    record = records.load(store.open(str(place.folder / "store")), run)
    assert (record.attempts[0].attempt, record.attempts[0].code) == (1, 7)
    assert ended(place.start(run, *argv, attempt=3))[0] == 3


def test_refusals_are_told(place: Place) -> None:
    code, _, said = ended(place.start(run_name("net"), "true", env={"LAUNCHER_PODMAN_NETWORK": "ns:/nowhere"}))
    assert code != 0
    assert "TargetError: Podman refused:" in said
    assert place.podman("ps", "--all", "--quiet") == ""


def test_user_without_a_range_of_numbers(cache: Cache, image: Image) -> None:
    place = Place(image, cache.root, rootless=True, numbers="")
    try:
        code, _, said = ended(place.start(run_name("alone"), "true"))
        assert code != 0
        assert "usermod --add-subuids" in said
    finally:
        place.close()
