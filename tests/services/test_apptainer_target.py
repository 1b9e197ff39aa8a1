"""The target `local` through a real Apptainer, as root and as an ordinary user, from a SIF and from a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import records, store
from launcher.cache import Cache
from launcher.image.oci import Image
from launcher.store import keys
from tests.patience import LONG_S
from tests.rootfs import tiny_image
from tests.services.podman_places import USER, Place, public_python
from tests.services.test_docker_target import LOOK

pytestmark = pytest.mark.services

MARK = f"of-{os.getpid()}-apptainer"  # tells this module's commands from those of tests that run beside it
WAITS = (
    f"'{MARK}'; import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
)
FUSE = os.makedev(10, 229)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    if os.getuid() != 0 or not public_python():
        pytest.skip("needs root, and a Python that everybody may run")
    return Cache(tmp_path_factory.mktemp("apptainer-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache, mount_points=True)


class Site(Place):
    """A place with an Apptainer."""

    def __init__(self, image: Image, cache: Path, program: Path, *, rootless: bool, form: str) -> None:
        super().__init__(image, cache, rootless=rootless)
        self.program, self.form = program, form
        os.mknod(self.folder / "fuse", 0o666 | stat.S_IFCHR, FUSE)  # here only root may open the machine's own
        (self.folder / "fuse").chmod(0o666)

    def environment(self) -> dict[str, str]:
        env = super().environment()
        return {
            **env,
            "PATH": f"{self.program.parent}:{env['PATH']}",
            "LAUNCHER_APPTAINER_IMAGE": self.form,
            "APPTAINER_BIND": "/etc:/opt",
            "APPTAINERENV_LEAKS": "1",
            "SINGULARITYENV_LEAKS": "1",
        }

    def close(self) -> None:
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module", params=["root-sif", "root-folder", "user-sif", "user-folder"])
def place(request: pytest.FixtureRequest, cache: Cache, image: Image, apptainer: Path) -> Iterator[Site]:
    who, _, form = request.param.partition("-")
    made = Site(image, cache.root, apptainer, rootless=who == "user", form=form)
    yield made
    made.close()


def run_name(name: str) -> str:
    return f"20260304-050607-{name}-abcdef"


def go(place: Site, run: str, *argv: str, runtime: str = "apptainer") -> tuple[int, bytes, str]:
    return ended(place.start(run, *argv, runtime=runtime))


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    out, err = process.communicate(timeout=LONG_S)
    return process.returncode, out, err.decode()


def up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"up\n", process.stderr.read().decode()


def living(place: Site) -> list[str]:
    """Return the command lines of processes that have to do with this place: others may use Apptainer meanwhile."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, told = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if (
            os.fsencode(place.folder) in words + told or MARK.encode() in words
        ):  # Apptainer's own processes have their settings there
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_apptainer_shows_what_the_sandbox_shows(place: Site) -> None:
    (place.folder / "code" / "a b.py").write_text("x")
    seen = []
    for runtime in ("sandbox", "apptainer"):
        run = run_name(f"look-{runtime}")
        code, _, said = go(place, run, "python3", "-c", LOOK, runtime=runtime)
        assert code == 0, said
        seen.append(json.loads(store.open(str(place.folder / "store")).get(keys.output(run, 1, "seen.json"))))
    assert {k: v for k, v in seen[1].items() if k != "root"} == {k: v for k, v in seen[0].items() if k != "root"}
    assert set(seen[1]["root"]) - set(seen[0]["root"]) <= {".singularity.d", "root", "home"}  # Apptainer's own
    assert seen[1]["writable"] == ["/tmp", "/run/launcher/home", "/dev/shm"]
    assert seen[1]["ids"] == ([USER, USER] if place.rootless else [0, 0])
    assert (place.folder / "store" / keys.output(run, 1, "seen.json")).stat().st_uid == seen[1]["ids"][0]


@pytest.mark.parametrize("code", [42, 137, 255])
def test_codes_and_output(place: Site, code: int) -> None:
    script = f"import sys; sys.stdout.buffer.write(bytes(range(256)) * 9999); sys.stderr.write('err'); sys.exit({code})"
    run = run_name(f"code-{code}")
    got, out, said = go(place, run, "python3", "-c", script)
    assert (got, out) == (code, bytes(range(256)) * 9999)
    assert said.startswith(f"err{run}: failed")
    assert records.load(store.open(str(place.folder / "store")), run).exit["code"] == code


def test_signals_reach_the_command_and_nothing_stays(place: Site) -> None:
    process = place.start(run_name("signals"), "python3", "-c", WAITS, runtime="apptainer")
    up(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 7
    assert not left_soon(place)
    assert list((place.folder / "cache" / "tmp").iterdir()) == []


def test_a_killed_launcher_leaves_nothing_running(place: Site) -> None:
    process = place.start(run_name("killed"), "python3", "-c", WAITS, runtime="apptainer")
    up(process)
    process.kill()
    process.communicate(timeout=LONG_S)
    assert not left_soon(place)
    assert go(place, run_name("next"), "python3", "-c", "print(1)")[:2] == (0, b"1\n")
    assert list((place.folder / "cache" / "tmp").iterdir()) == []  # swept by the next


def left_soon(place: Site) -> list[str]:
    for _ in range(50):
        if not living(place):
            return []
        time.sleep(0.1)
    return living(place)
