"""The sandbox: what a command sees, what it can't reach, and how its end comes back."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import launcher
from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image.oci import Image
from launcher.image.tree import Entry
from launcher.target import trees
from launcher.target.model import Container, Ending, Mount
from launcher.target.sandbox import refusal
from launcher.target.sandbox.runtime import Sandbox
from tests.patience import LONG_S
from tests.rootfs import image as image_of
from tests.rootfs import tiny_image

PACKAGES = Path(launcher.__file__).parents[1]
DRIVER = Path(__file__).with_name("sandbox_driver.py")

PROBE = """
import json, os, socket, sys
WRITTEN = ["", "/usr", "/workspace", "/data", "/data/in", "/run", "/dev", "/sys", "/proc/sys", "/tmp", "/dev/shm"]
def tried(action):
    try:
        action()
    except OSError as e:
        return type(e).__name__
    return "done"
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "ids": [os.getuid(), os.getgid()], "cwd": os.getcwd(), "env": dict(os.environ),
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "kill": tried(lambda: os.kill(int(sys.argv[1]), 0)),
    "writes": {path: tried(lambda: open(path + "/x", "w").close()) for path in WRITTEN},
    "host": [path for path in sys.argv[2:] if os.path.exists(path)],
    "spied": tried(lambda: open("/proc/1/environ").read()),
    "mount": tried(lambda: os.chroot("/tmp")),
    "devices": sorted(os.listdir("/dev")),
    "hostname": socket.gethostname(),
    "in": open("/data/in/file").read(),
    "null": tried(lambda: open("/dev/null", "w").write("x")),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "stdin": sys.stdin.read(),
}))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("sandbox-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache)


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Container:
    """A container of that image, with code, an input and a writable folder."""
    for name in ("code", "in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "file").write_text("input")
    mounts = (
        Mount(source=tmp_path / "code", target="/workspace"),
        Mount(source=tmp_path / "in", target="/data/in"),
        Mount(source=tmp_path / "out", target="/run/out", writable=True),
    )
    env = {"PATH": "/usr/bin:/bin"}
    return Container(run="r", image=image, argv=("true",), env=env, mounts=mounts, user=os.getuid(), group=os.getgid())


def python(container: Container, script: str, *words: str) -> Container:
    return replace(container, argv=("python3", "-I", "-S", "-c", script, *words))


def ended(cache: Cache, container: Container, *, overlay: bool = True) -> Ending:
    return Sandbox(cache, overlay=overlay).start(container).wait()


@pytest.mark.parametrize("overlay", [True, False])
def test_command_is_shut_in(
    cache: Cache, container: Container, capfd: pytest.CaptureFixture[str], tmp_path: Path, overlay: bool
) -> None:
    probe = python(container, PROBE, str(os.getpid()), str(tmp_path), str(cache.root), str(DRIVER))
    before = Path("/proc/self/mountinfo").read_text()
    assert ended(cache, probe, overlay=overlay) == Ending(code=0)
    seen = json.loads(capfd.readouterr().out)
    assert seen["ids"] == [os.getuid(), os.getgid()]
    assert seen["cwd"] == "/workspace"
    assert seen["env"] == {"PATH": "/usr/bin:/bin"} | {k: v for k, v in seen["env"].items() if k == "LC_CTYPE"}
    assert {int(word, 16) for word in seen["capabilities"]} == {0}
    assert seen["no_new_privileges"] == "1"
    assert len(seen["processes"]) == 2
    assert seen["kill"] == "ProcessLookupError"
    assert [path for path, result in seen["writes"].items() if result == "done"] == ["/tmp", "/dev/shm"]
    assert seen["host"] == []
    assert seen["spied"] == "PermissionError"
    assert seen["mount"] == "PermissionError"
    assert set(seen["devices"]) == {
        *("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"),
        *("fd", "stdin", "stdout", "stderr"),
    }
    assert seen["hostname"] == os.uname().nodename
    assert (seen["in"], seen["null"], seen["stdin"]) == ("input", "done", "")
    assert seen["descriptors"] == ["0", "1", "2", "3"]  # 3 is the listing itself
    assert Path("/proc/self/mountinfo").read_text() == before


def test_only_what_is_writable_is_written(cache: Cache, container: Container, tmp_path: Path) -> None:
    script = "import os; open('/run/out/file', 'w').write(str(os.getuid()))"
    assert ended(cache, python(container, script)) == Ending(code=0)
    assert (tmp_path / "out" / "file").read_text() == str(os.getuid())
    assert (tmp_path / "out" / "file").stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("raise SystemExit(0)", Ending(code=0)),
        ("raise SystemExit(42)", Ending(code=42)),
        ("raise SystemExit(137)", Ending(code=137)),
        ("import os; os.kill(os.getpid(), 15)", Ending(signal=15)),
        ("import os; os.kill(os.getpid(), 9)", Ending(signal=9)),
        ("import os; os.abort()", Ending(signal=6)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)", Ending(signal=signal.SIGRTMIN + 1)),
    ],
)
def test_end_comes_back_exactly(cache: Cache, container: Container, script: str, ending: Ending) -> None:
    assert ended(cache, python(container, script)) == ending


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH"])
def test_signals_are_passed_on(cache: Cache, container: Container, tmp_path: Path, name: str) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal(signal.{name}, lambda *_: sys.exit(7))\n"
        "open('/run/out/ready', 'w').close()\n"
        "while True: signal.pause()"
    )
    process = Sandbox(cache).start(python(container, script))
    wait_for(tmp_path / "out" / "ready")
    process.signal(getattr(signal, name))
    assert process.wait() == Ending(code=7)


def test_sigkill_ends_everything_inside(cache: Cache, container: Container, tmp_path: Path) -> None:
    script = "import os, time\nos.fork()\nos.setsid()\nopen('/run/out/ready', 'w').close()\ntime.sleep(60)"
    process = Sandbox(cache).start(python(container, script.replace("os.setsid()", "")))
    wait_for(tmp_path / "out" / "ready")
    process.signal(signal.SIGKILL)
    ending = process.wait()
    assert ending.signal == signal.SIGKILL
    assert ending.lost


def test_orphans_end_with_the_command(cache: Cache, container: Container, tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    open('/run/out/alive', 'w').close()\n"
        "    time.sleep(0.5)\n"
        "    open('/run/out/late', 'w').close()\n"
        "while not os.path.exists('/run/out/alive'): time.sleep(0.01)\n"
    )
    assert ended(cache, python(container, script)) == Ending(code=0)
    time.sleep(0.7)
    assert not (tmp_path / "out" / "late").exists()


def test_orphans_are_reaped(cache: Cache, container: Container, capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "import os, time\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.fork() or time.sleep(0.05)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "living = lambda: len([name for name in os.listdir('/proc') if name.isdigit()])\n"
        "end = time.monotonic() + 20\n"
        "while living() > 2 and time.monotonic() < end: time.sleep(0.02)\n"
        "print(living())\n"
    )
    assert ended(cache, python(container, script)) == Ending(code=0)
    assert capfd.readouterr().out == "2\n"


NASTY = ["with space", "quote'\"", "$HOME", "new\nline", "-rf", "ü☃", "comma,colon:", "back\\slash"]


@pytest.mark.parametrize("overlay", [True, False])
def test_nasty_names(
    tmp_path: Path, container: Container, image: Image, capfd: pytest.CaptureFixture[str], overlay: bool
) -> None:
    cache = Cache(tmp_path / "cache:with, $odd\n'name")
    mounts = [container.mounts[0]]
    for name in NASTY:
        source = tmp_path / "from" / name
        source.mkdir(parents=True)
        (source / name).write_text(name)
        mounts.append(Mount(source=source, target=f"/data/{name}"))
    script = "import sys; print([open(f'/data/{name}/{name}').read() for name in sys.argv[1:]] == sys.argv[1:])"
    assert ended(cache, python(replace(container, mounts=tuple(mounts)), script, *NASTY), overlay=overlay).code == 0
    assert capfd.readouterr().out == "True\n"


def test_missing_program(cache: Cache, container: Container) -> None:
    with pytest.raises(TargetError, match="the program could not be started: /bin/nothere: No such file"):
        ended(cache, replace(container, argv=("nothere",)))


def test_link_in_place_of_a_mount_point(cache: Cache, container: Container) -> None:
    link = Entry(path="workspace", kind="symlink", target="/etc")
    odd = image_of(cache, [{"workspace": link}])
    layers = (*container.image.layers, *odd.layers)
    with pytest.raises(TargetError, match="a symbolic link where something has to be mounted: /workspace"):
        ended(cache, replace(container, image=replace(container.image, layers=layers)))


def test_touched_tree_is_made_again(cache: Cache, container: Container, capfd: pytest.CaptureFixture[str]) -> None:
    (layer, *_) = container.image.layers
    folder = trees.tree(cache, layer.diff_id, layer.path)
    for damage in (
        lambda: (folder / "etc/passwd").write_text("mallory"),
        lambda: (folder / "etc/passwd").unlink(),
        lambda: (folder / "etc/more").touch(),
        lambda: (folder / "bin/sh").chmod(0o600),
        lambda: shutil.rmtree(folder / "etc"),
        lambda: shutil.rmtree(folder),
        lambda: (cache.root / "notes" / "trees" / f"{layer.diff_id}.json").unlink(),
    ):
        damage()
        assert ended(cache, python(container, "print(open('/etc/passwd').readline())")).code == 0
        assert capfd.readouterr().out.startswith("root:x:0:0")
        assert not (folder / "etc/more").exists()


# As another process: killed, or as another user


@pytest.fixture
def driven(image: Image) -> Iterator[Callable[..., dict[str, object]]]:
    """Describe containers for the driver, in a folder that every user may read."""
    place = Path(tempfile.mkdtemp(prefix="launcher-test-"))
    place.chmod(0o755)
    shutil.copytree(PACKAGES / "launcher", place / "launcher", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DRIVER, place)
    layers = [(layer.diff_id, shutil.copy(layer.path, place / layer.diff_id)) for layer in image.layers]
    (place / "out").mkdir()
    (place / "out").chmod(0o777)

    def describe(argv: list[str], **more: object) -> list[str]:
        told = {
            "packages": str(place),
            "layers": [(diff_id, str(path)) for diff_id, path in layers],
            "argv": argv,
            "mounts": [(str(place / "out"), "/run/out", True)],
            "cache": str(place / "cache"),
            **more,
        }
        (place / "told.json").write_text(json.dumps(told))
        return [str(place / DRIVER.name), str(place / "told.json")]

    describe.place = place  # type: ignore[attr-defined]
    yield describe  # type: ignore[misc]
    shutil.rmtree(place, ignore_errors=True)


def test_death_of_the_launcher_ends_everything(driven: Callable[..., list[str]]) -> None:
    script = "import os, time; os.fork(); print('up', flush=True); time.sleep(60)"
    words = driven(["python3", "-I", "-S", "-c", script])
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"up\nup\n"
        process.kill()
        begun = time.monotonic()
        assert process.stdout.read() == b""  # its end comes when the last holder of the pipe is gone
        assert time.monotonic() - begun < 55, "and not the minute that they would take"


@pytest.mark.slow
def test_killed_at_any_moment(driven: Callable[..., list[str]]) -> None:
    """25 times: killed while it unpacks, checks, mounts or runs; then a run is right, and so are the trees."""
    script = "import json, sys, time; time.sleep(float(sys.argv[1])); print(json.dumps('whole'))"
    place: Path = driven.place  # type: ignore[attr-defined]
    chance = random.Random(1)
    for number in range(25):
        words = driven(["python3", "-I", "-S", "-c", script, "5"], overlay=number % 5 > 0)
        process = subprocess.Popen([sys.executable, *words])
        time.sleep(chance.uniform(0.02, 0.8 if number % 2 else 0.3))
        process.kill()
        process.wait()
        if number % 8 == 7:
            shutil.rmtree(place / "cache", ignore_errors=True)
    words = driven(["python3", "-I", "-S", "-c", script, "0"])
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '"whole"\n'), done.stderr
    fresh = Cache(place / "fresh")
    for layer in json.loads((place / "told.json").read_text())["layers"]:
        wanted = trees.looks(trees.tree(fresh, layer[0], Path(layer[1])))
        assert trees.looks(place / "cache" / "trees" / layer[0]) == wanted
    assert not list((place / "cache" / "tmp").glob("*/tree"))


def ordinary_user() -> list[str] | None:
    """Return how to start a Python as an ordinary user, if that can be done here."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return None
    switch = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    for candidate in (sys.executable, "/usr/bin/python3"):
        test = [*switch, candidate, "-c", "import os, sys; os.execv(sys.executable, [sys.executable, '-V'])"]
        if Path(candidate).exists() and subprocess.run(test, capture_output=True).returncode == 0:
            return [*switch, candidate]
    return None


@pytest.mark.skipif(ordinary_user() is None, reason="needs root, setpriv and a Python that everybody may run")
@pytest.mark.parametrize("overlay", [True, False])
def test_ordinary_user(driven: Callable[..., list[str]], overlay: bool) -> None:
    place: Path = driven.place  # type: ignore[attr-defined]
    (place / "cache").mkdir()
    os.chown(place / "cache", 65534, 65534)
    script = "import os; print(os.getuid(), os.getgid()); open('/run/out/x', 'w').close(); open('/usr/x', 'w')"
    words = driven(["python3", "-I", "-S", "-c", script], overlay=overlay)
    done = subprocess.run([*(ordinary_user() or []), *words], capture_output=True, text=True, cwd="/")
    assert done.stdout == "65534 65534\n", done.stderr
    assert "Read-only file system" in done.stderr
    assert (place / "out" / "x").stat().st_uid == 65534


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare(1)")
def test_forbidden_user_namespaces(driven: Callable[..., list[str]]) -> None:
    words = driven(["true"])
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("no sandbox: this machine allows no user namespaces (user.max_user_namespaces is 0)")
    assert "sysctl -w user.max_user_namespaces" in done.stderr
    assert "--runtime docker" in done.stderr


def test_settings_that_forbid_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert refusal.setting(tmp_path) is None
    setting = tmp_path / "proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    setting.parent.mkdir(parents=True)
    setting.write_text("1\n")
    assert "AppArmor" in (refusal.setting(tmp_path) or "")
    error = refusal.explain("stage", 13, "/x", tmp_path)
    assert "apparmor_restrict_unprivileged_userns=0" in str(error)
    setting.write_text("0\n")
    assert "a security module" in str(refusal.explain("namespaces", 1, "unshare", tmp_path))


def wait_for(path: Path) -> None:
    until = time.monotonic() + LONG_S
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.01)
