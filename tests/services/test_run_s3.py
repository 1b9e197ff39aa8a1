"""`launcher run` with all that it makes in a bucket: record, logs, outputs and checkpoints, killed and resumed from
another machine; and the credentials nowhere but where the runner reads them. No folder store is involved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from launcher.lock import load
from tests.object_stores import ObjectStore
from tests.patience import LONG_S

pytestmark = [pytest.mark.services, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "resume"
SECRET = "s3cr3t+that/is=nowhere"
LOOK = """
import json, os, pathlib, time
def read(path):
    try:
        return pathlib.Path(path).read_bytes().decode(errors="replace")
    except OSError as e:
        return str(e)
pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
others = {pid: [read(f"/proc/{pid}/environ"), read(f"/proc/{pid}/cmdline")] for pid in pids}
told = {"environment": dict(os.environ), "others": others, "attempt": read("/run/launcher/attempt.json")}
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "line.json").write_text(json.dumps(told))
print("up", flush=True)
time.sleep(8)
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A user on a machine: a home with a login, a cache, and nothing else."""

    home: Path
    store: ObjectStore
    extra: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        own = {name: value for name, value in self.store.environment.items() if "ACCESS_KEY" not in name}
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("LAUNCHER_", "XDG_"))},
            **own,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.home / "credentials"),
            "HOME": str(self.home),
            "LAUNCHER_CACHE": str(self.home / "cache"),
            "LAUNCHER_STORE": f"{self.store.url}/lab",
            "XDG_RUNTIME_DIR": str(self.home / "memory"),
            **self.extra,
        }

    def start(self, *args: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "launcher", *args]
        place = {"cwd": cwd, "env": {**self.env, "PYTHONPATH": str(ROOT)}, "start_new_session": True}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process: subprocess.Popen[str] = subprocess.Popen(words, **place, **pipes)  # type: ignore[call-overload]
        self.started.append(process)
        return process

    def launcher(self, *args: str, cwd: Path = ROOT, code: int = 0) -> str:
        process = self.start(*args, cwd=cwd)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        return out if code == 0 else err

    def record(self, run: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.launcher("show", *filter(None, [run]), "--json"))
        return found

    def files(self) -> Iterator[Path]:
        """Yield all that this user has but the login itself."""
        for path in self.home.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != "credentials":
                yield path


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    """The example with a lock of this machine's own indexes."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("resume") / "resume"))
    env = os.environ | {"LAUNCHER_CACHE": str(shared_cache.root), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "lock", str(folder)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(locked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(locked, tmp_path / "project"))


@pytest.fixture
def machine(s3: ObjectStore, locked: Path, shared_cache: Cache, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Make machines, each with the artifacts that it would fetch, and no other memory."""
    made: list[Machine] = []

    def make(name: str, **extra: str) -> Machine:
        home = tmp_path / name
        (home / "memory").mkdir(parents=True, mode=0o700)
        (home / "memory").chmod(0o700)
        login = f"[default]\naws_access_key_id = {s3.key}\naws_secret_access_key = {SECRET}\n"
        (home / "credentials").write_text(login)
        for artifact in load(locked / "experiment.lock").artifacts:
            link(
                shared_cache.path("artifacts", artifact.sha256),
                Cache(home / "cache").path("artifacts", artifact.sha256),
            )
        made.append(Machine(home=home, store=s3, extra=extra))
        return made[-1]

    yield make
    for process in (process for one in made for process in one.started):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def names(store: ObjectStore) -> list[str]:
    """Return the keys of all that lies in the bucket, by boto3."""
    client = store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket)
    found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    client.close()
    return found


def bucket(store: ObjectStore) -> dict[str, bytes]:
    """Return all that lies in the bucket, once nobody writes there or deletes."""
    client = store.client()
    found = {}
    for key in names(store):
        body = client.get_object(Bucket=store.bucket, Key=key)["Body"]
        found[key] = body.read()
        body.close()
    client.close()
    return found


def until(what: Callable[[], Any], seconds: float = LONG_S) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.3)
    return found


def checkpoints(store: ObjectStore) -> list[str]:
    return [key for key in names(store) if "/checkpoints/" in key]


@pytest.fixture(params=["sandbox", "docker"])
def runtime(request: pytest.FixtureRequest) -> dict[str, str]:
    """What says which runtime to take."""
    told = {"LAUNCHER_RUNTIME": request.param}
    return {**told, "DOCKER_HOST": request.getfixturevalue("docker_engine")} if request.param == "docker" else told


def test_a_run_is_in_the_bucket_and_nowhere_else(machine: Any, project: Path, runtime: dict[str, str]) -> None:
    here = machine("here", **runtime)
    printed = here.launcher("run", str(project))
    line = json.loads(printed)
    assert abs(line["slope"] - 3) < 0.1
    record = here.record()
    assert (record["state"], record["complete"], record["exit"]["code"]) == ("succeeded", True, 0)
    assert record["metrics"]["names"]["loss"]["count"] == 400
    steps = sorted(found["name"] for found in record["checkpoints"])
    assert steps[-2:] == ["step-00000380.json", "step-00000400.json"] and "step-00000100.json" in steps
    assert len(steps) < 10, "`keep` keeps few"
    there = bucket(here.store)
    run = f"lab/runs/{record['run']}"
    assert there[f"{run}/outputs/0001/files/line.json"].decode() == printed.strip()
    assert here.launcher("logs") == printed
    assert f"{run}/record.json" in there and f"lab/locks/{record['lock']}.lock" in there
    assert not (here.home / ".local").exists() and not list((here.home / "cache" / "runs").iterdir())
    assert [path.name for path in (here.home / "memory").glob("*/*")] == ["lock"]


def test_the_secret_is_nowhere(machine: Any, project: Path, runtime: dict[str, str]) -> None:
    """Not in an environment, on a command line, in the lock, the record, the logs, job.json, or attempt.json."""
    here = machine("here", **runtime)
    spec = project / "experiment.yaml"
    (project / "look.py").write_text(LOOK)
    spec.write_text(spec.read_text().replace("python train.py", "python look.py"))
    process = here.start("run", str(project))
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    [handed] = (here.home / "memory").glob("*/*/store.json")
    assert SECRET in handed.read_text() and stat.S_IMODE(handed.stat().st_mode) == 0o600
    assert not [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and shows(pid)]
    assert not [path for path in here.files() if path != handed and SECRET.encode() in path.read_bytes()]
    out, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, err
    assert SECRET not in out + err and not handed.exists()
    assert not [path for path in here.files() if SECRET.encode() in path.read_bytes()]
    assert not [key for key, data in bucket(here.store).items() if SECRET.encode() in data]
    [told] = [json.loads(data) for key, data in bucket(here.store).items() if key.endswith("files/line.json")]
    assert not [name for name in told["environment"] if name.startswith(("AWS_", "SSL_"))]
    assert SECRET not in json.dumps(told) and here.store.key not in json.dumps(told)
    assert json.loads(told["attempt"])["store"]["secrets"] == "/run/launcher/secrets/store.json"


def shows(pid: Path) -> bool:
    """Tell whether a process shows the secret to those who may look at it."""
    try:
        return SECRET.encode() in (pid / "environ").read_bytes() + (pid / "cmdline").read_bytes()
    except OSError:
        return False


def test_killed_and_resumed_on_another_machine(machine: Any, project: Path) -> None:
    """SIGKILL to everything at once, as when a machine is lost: another one goes on from what is in the bucket."""
    here, there = machine("here", LAUNCHER_RUNTIME="sandbox"), machine("there", LAUNCHER_RUNTIME="sandbox")
    undisturbed = here.launcher("run", str(project))
    run = killed(here, project)
    refused = there.launcher("run", "--resume", run, code=69)
    assert "this machine (with this cache) did not start it" in refused
    until(lambda: "did not start it" not in (err := attempted(there, run)) and err, 90)
    printed = there.launcher("logs", run, "--attempt", "2", "--stdout").splitlines()
    assert printed[0].startswith("going on after step ") and int(printed[0].split()[-1]) >= 20
    assert printed[1] + "\n" == undisturbed
    record = there.record(run)
    assert (record["state"], record["complete"], len(record["attempts"])) == ("succeeded", True, 2)
    assert record["attempts"][1]["restored"]
    again = there.launcher("rerun", run, "--json")
    assert json.loads(again)["state"] == "succeeded"


def attempted(machine: Machine, run: str) -> str:
    """Resume a run; return what was said, ended or refused."""
    process = machine.start("run", "--resume", run)
    _, err = process.communicate(timeout=LONG_S)
    assert process.returncode in (0, 69), err
    return str(err) or "nothing"


def killed(machine: Machine, project: Path) -> str:
    """Kill a run and all that belongs to it when a checkpoint is kept; return its id."""
    before = len(checkpoints(machine.store))
    process = machine.start("run", str(project), "-p", "pause=0.05")
    until(lambda: len(checkpoints(machine.store)) > before)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return str(json.loads(machine.launcher("ls", "--json"))[0]["run"])


def test_killed_and_resumed_here_at_once(machine: Any, project: Path) -> None:
    """This machine has seen the attempt die, so nobody waits for its claim to lapse."""
    here = machine("here", LAUNCHER_RUNTIME="sandbox")
    run = killed(here, project)
    [left] = (here.home / "memory").glob("*/*/store.json")
    since = time.monotonic()
    printed = here.launcher("run", "--resume", run)
    assert time.monotonic() - since < 55
    assert printed.startswith("going on after step ")
    assert not left.exists(), "what the killed client left goes with the next start"
    assert here.record(run)["state"] == "succeeded"


def test_a_killed_runner_is_recorded_and_resumed(machine: Any, project: Path) -> None:
    here = machine("here", LAUNCHER_RUNTIME="sandbox")
    process = here.start("run", str(project), "-p", "pause=0.05")
    until(lambda: checkpoints(here.store))
    [runner] = [int(pid.name) for pid in Path("/proc").iterdir() if is_runner(pid, process.pid)]
    os.kill(runner, signal.SIGKILL)
    _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 137 and "killed" in err
    run = json.loads(here.launcher("ls", "--json"))[0]["run"]
    assert here.launcher("run", "--resume", run).startswith("going on after step ")


def is_runner(pid: Path, client: int) -> bool:
    """Tell whether a process is the runner that a client started."""
    try:
        return b"/opt/launcher/run.py" in (pid / "cmdline").read_bytes().split(b"\0") and client in ancestors(pid)
    except OSError:
        return False


def ancestors(pid: Path) -> Iterator[int]:
    while pid.name != "0":
        pid = pid.with_name((pid / "stat").read_text().rpartition(")")[2].split()[1])
        yield int(pid.name)


def test_a_bucket_that_is_not_there_is_told_before_anything_is_built(machine: Any, project: Path) -> None:
    here = machine("here")
    said = here.launcher("run", "--store", "s3://nobody-made-this", str(project), code=69)
    assert "there is no such bucket" in said and "hint:" in said
    assert not (here.home / "cache" / "blobs").exists()
    told = json.loads(here.start("check", "--store", "s3://nobody-made-this", str(project), "--json").communicate()[0])
    [finding] = [found for found in told["findings"] if found["subject"] == "store"]
    assert finding["verdict"] == "refused" and not told["fits"]
