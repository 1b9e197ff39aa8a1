"""The target `local`: a whole attempt by the real runner in a sandbox, and what is left of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from launcher import records, store, target
from launcher.cache import Cache
from launcher.code import snapshot
from launcher.errors import TargetError, UsageError
from launcher.image.oci import Image
from launcher.job import Job, run_id
from launcher.spec.model import CodeSpec, Gpus, Resources
from launcher.store import keys
from launcher.store.access import Access
from launcher.target import accounts, machine, runtimes
from launcher.target import local as localhost
from launcher.target.local import Local
from launcher.target.model import Container, Ending, Process, StillRunning, Unusable, Work
from tests.patience import LONG_S
from tests.rootfs import tiny_image


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("local-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache)


class Desk:
    """A working folder and a store; makes work of scripts and runs it."""

    def __init__(self, cache: Cache, image: Image, folder: Path) -> None:
        self.cache, self.image, self.folder = cache, image, folder
        self.code, self.store = folder / "code", folder / "store"
        self.code.mkdir()

    def work(self, *argv: str, **more: object) -> Work:
        code = snapshot(CodeSpec(root=self.code), self.cache)
        run = run_id("t", datetime.now(timezone.utc), os.urandom(4))
        values = {"params": {"lr": 0.1}, **more}
        data = values.pop("paths", {})
        job = Job(
            run=run, name="t", lock="0" * 64, image=self.image.id, code=code.digest, command=argv, argv=argv, **values
        )  # type: ignore[arg-type]
        return Work(job=job, image=self.image, code=code.archive, store=Access(str(self.store)), data=data)  # type: ignore[arg-type]

    def run(self, work: Work, runtime: str = "sandbox") -> Ending:
        records.submit(store.open(str(self.store)), work.job_json(), attempt=work.attempt)
        return target.open("local", self.cache, runtime=runtime).start(work).wait()


@pytest.fixture
def desk(cache: Cache, image: Image, tmp_path: Path) -> Iterator[Desk]:
    yield Desk(cache, image, tmp_path)


def test_whole_attempt(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    (desk.folder / "numbers").write_text("1 2 3")
    (desk.code / "train.py").write_text(
        "import json, os, pathlib, sys\n"
        "print(pathlib.Path('/data/numbers').read_text())\n"
        "print('grumble', file=sys.stderr)\n"
        "json.dump(dict(os.environ), open(os.environ['LAUNCHER_OUTPUT_DIR'] + '/env.json', 'w'))\n"
        "pathlib.Path(os.environ['HOME'], 'x').touch()\n"
        "raise SystemExit(3)\n"
    )
    work = desk.work("python3", "train.py", paths={"numbers": desk.folder / "numbers"})
    assert desk.run(work) == Ending(code=3)
    assert capfd.readouterr() == ("1 2 3\n", "grumble\n")
    opened = store.open(str(desk.store))
    record = records.load(opened, work.job.run)
    assert (record.state, record.exit["code"], record.complete) == ("failed", 3, True)
    env = json.loads(opened.get(keys.output(work.job.run, 1, "env.json")))
    assert env["OF_IMAGE"] == "yes"
    assert env["HOME"] == "/run/launcher/home"
    assert env["LAUNCHER_PARAM_LR"] == "0.1"
    assert not {"LAUNCHER_STORE", "LAUNCHER_CACHE", "PYTEST_CURRENT_TEST"} & set(env)


def test_user_has_a_name(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    script = "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)"
    assert desk.run(desk.work("python3", "-c", script)) == Ending(code=0)
    assert capfd.readouterr().out == ("root\n" if os.getuid() == 0 else accounts.user_name() + "\n")


def test_line_for_an_unknown_user(desk: Desk, tmp_path: Path) -> None:
    found = accounts.mounts(desk.image, desk.cache, tmp_path, user=4711, group=4712, home="/h")
    assert [mount.target for mount in found] == ["/etc/passwd", "/etc/group"]
    assert (tmp_path / "passwd").read_text().splitlines()[-1].split(":")[2:] == ["4711", "4712", *found_tail()]
    assert (tmp_path / "passwd").read_text().startswith("root:x:0:0")


def found_tail() -> list[str]:
    return [accounts.user_name(), "/h", "/bin/sh"]


def test_changed_code_of_equal_size_is_seen(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """Files of the snapshot have one time, so byte code of the older one would fit by time and size."""
    for value in ("0.1", "0.2", "0.1"):
        (desk.code / "conf.py").write_text(f"lr = {value}\n")
        (desk.code / "train.py").write_text("import conf\nprint(conf.lr)\n")
        assert desk.run(desk.work("python3", "train.py")) == Ending(code=0)
        assert capfd.readouterr().out == f"{value}\n"
    assert list((desk.cache.root / "pycache").rglob("workspace/conf.*")) == []
    assert len(list((desk.cache.root / "pycache").rglob("code/*/conf.*.pyc"))) == 2


def test_byte_code_of_the_image_is_shared(desk: Desk) -> None:
    assert desk.run(desk.work("python3", "-c", "import wave")) == Ending(code=0)
    found = list((desk.cache.root / "pycache").rglob("*.pyc"))
    assert any("launcher/runner/supervise" in str(path) for path in found)


def test_next_attempt_goes_on_from_the_checkpoint(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "import os, pathlib, signal\n"
        "place = pathlib.Path(os.environ['LAUNCHER_CHECKPOINT_DIR'], 'state')\n"
        "done = int(place.read_text()) if place.exists() else 0\n"
        "print(os.environ['LAUNCHER_ATTEMPT'], done)\n"
        "place.with_suffix('.tmp').write_text(str(done + 1))\n"
        "place.with_suffix('.tmp').rename(place)\n"
        "os.kill(os.getpid(), signal.SIGKILL) if done < 1 else None\n"
    )
    work = desk.work("python3", "-c", script)
    assert desk.run(work).exit_code == 137
    opened = store.open(str(desk.store))
    number = records.next_attempt(opened, work.job.run)
    assert number == 2
    again = Work(job=work.job, image=work.image, code=work.code, store=work.store, attempt=number)
    assert desk.run(again) == Ending(code=0)
    assert capfd.readouterr().out == "1 0\n2 1\n"
    assert records.load(opened, work.job.run).state == "succeeded"


def test_one_attempt_at_a_time(desk: Desk) -> None:
    work = desk.work("python3", "-c", "import time; time.sleep(30)")
    local = target.open("local", desk.cache, runtime="sandbox")
    process = local.start(work)
    with pytest.raises(TargetError, match="is running on this machine"):
        local.start(work)
    process.signal(9)
    assert process.wait().lost
    process.discard()
    assert not list((desk.cache.root / "runs").glob(f"{work.job.run}*"))


def test_what_another_machine_started_in_a_shared_cache_is_not_ours(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then nobody here can say that it is dead: its claim on the run decides."""
    work, local = desk.work("python3", "-c", ""), target.open("local", desk.cache, runtime="sandbox")
    assert desk.run(work) == Ending(code=0)
    assert local.last_attempt(work.job.run) == 1
    monkeypatch.setattr(machine, "ID", tmp_path / "machine-id")
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef")
    assert local.last_attempt(work.job.run) is None
    assert local.knows(work.job.run)


def test_a_runner_that_outlives_its_client_is_seen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the container of an engine: whatever runtime the next one asks for, it is refused."""
    monkeypatch.setattr(localhost, "DYING_S", 0.2)
    work = desk.work("python3", "-c", "import time; time.sleep(30)")
    process = target.open("local", desk.cache, runtime="sandbox").start(work)
    told = desk.cache.root / "runs" / work.job.run / "inside" / "attempt.json"
    until = time.monotonic() + LONG_S
    while not localhost.is_held(told) and time.monotonic() < until:
        time.sleep(0.05)
    os.close(process.held)  # as the death of the client would
    process.held = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(StillRunning, match="although what started it is gone"):
        target.open("local", desk.cache, runtime="sandbox").claim(work.job.run)
    process.signal(9)
    process.wait()
    target.open("local", desk.cache, runtime="sandbox").claim(work.job.run)
    process.discard()


def test_container_sees_only_its_own_run_of_the_store(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    other = desk.work("true")
    records.submit(store.open(str(desk.store)), other.job_json())
    script = "import os; print(len(os.listdir('/run/launcher/store/runs')), os.listdir('/run/launcher/store'))"
    assert desk.run(desk.work("python3", "-c", script)) == Ending(code=0)
    assert capfd.readouterr().out == "1 ['runs']\n"


def test_what_this_machine_lacks_is_told_at_once(desk: Desk) -> None:
    wants = Resources(nodes=2, gpus=Gpus(count=8), cpus=10_000, memory_bytes=10**16)
    with pytest.raises(TargetError) as caught:
        desk.run(desk.work("true", resources=wants))
    for word in ("2 nodes", "8 GPUs", "10000 CPUs", "10000000.0 GB"):
        assert word in str(caught.value)


class Broken:
    """A runtime that this machine does not bear."""

    def __init__(self, name: str, reason: str | None, error: TargetError | None = None) -> None:
        self.name, self.reason, self.error = name, reason, error

    def refusal(self) -> str | None:
        return self.reason

    def start(self, container: Container) -> Process:
        assert self.error is not None
        raise self.error


def test_runtimes_are_tried_in_order(desk: Desk) -> None:
    first, second = Broken("one", None, Unusable("no kernel for it")), Broken("two", "not installed")
    with pytest.raises(TargetError, match=r"one: no kernel for it\n  two: not installed"):
        Local(desk.cache, [first, second]).start(desk.work("true"))
    third = Broken("three", None, TargetError("this container is wrong"))
    with pytest.raises(TargetError, match=r"^this container is wrong"):
        Local(desk.cache, [third, second]).start(desk.work("true"))


def test_choice_of_the_runtime(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAUNCHER_RUNTIME", raising=False)
    assert [runtime.name for runtime in runtimes.choose(None, cache)] == ["sandbox", "docker", "podman", "apptainer"]
    monkeypatch.setenv("LAUNCHER_RUNTIME", "docker")
    assert [runtime.name for runtime in runtimes.choose(None, cache)] == ["docker"]
    assert [runtime.name for runtime in runtimes.choose("sandbox", cache)] == ["sandbox"]
    with pytest.raises(UsageError, match="there is no runtime `vm`"):
        runtimes.choose("vm", cache)
    with pytest.raises(UsageError, match="there is no target `moon`"):
        target.open("moon", cache)
