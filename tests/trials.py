"""Sweeps on a real cluster, put to the test: submitted, disturbed, and judged by what is in the store afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import records
from launcher import store as stores
from launcher.digest import sha256_bytes
from launcher.records import choosing, sweeps
from launcher.store.access import Access
from launcher.store.objects import Store
from tests import chain_sweep
from tests.clusters import Cluster, wait_until
from tests.object_stores import ObjectStore
from tests.patience import PATIENCE

PROGRAM = [sys.executable, "-m", "launcher"]
ROOT = Path(__file__).parents[1]
SPEC = """
name: {name}
image: {{base: debian:bookworm, python: "3.11"}}
run: python chain_sweep.py {{start}} {{steps}} {{pause}}
params: {{start: 0, steps: {steps}, pause: {pause}}}
sweep:
  grid: {{start: [{starts}]}}{sweep}
resources: {{cpus: 1, memory: 256M{resources}}}
determinism: strict
outputs: [digest]
{more}
"""
HONEST = {"succeeded", "running", "queued", "waiting", "unknown"}  # what may be said of a point that nobody made fail
END_S = 240


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep that was submitted."""

    name: str
    runs: tuple[str, ...]
    starts: tuple[int, ...]
    steps: int


@dataclass(kw_only=True)
class Person:
    """Somebody with a machine, a store, and launcher, which is called as a person calls it."""

    home: Path
    cache: Path
    place: str  # URL of the store
    bucket: ObjectStore | None = None  # who that is, where it is no folder

    @property
    def surroundings(self) -> Mapping[str, str]:
        """What the environment has that targets are reached by."""
        return os.environ

    @property
    def env(self) -> dict[str, str]:
        own = {"XDG_CONFIG_HOME": str(self.home / "config"), "LAUNCHER_CACHE": str(self.cache), "NO_COLOR": "1"}
        bucket = self.bucket.environment if self.bucket else {}
        return {**self.surroundings, "PYTHONPATH": str(ROOT), **own, **bucket}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=self.env, cwd=self.home
        )

    def call(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """Call launcher; return its stdout."""
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        said = f"{out.decode()[-3000:]}\n{err.decode()[-3000:]}"
        assert process.returncode in codes, f"launcher {' '.join(words)}: code {process.returncode}\n{said}"
        return out.decode()

    def json(self, *words: str, codes: Sequence[int] = (0,)) -> Any:
        return json.loads(self.call(*words, "--json", codes=codes))

    @property
    def store(self) -> Store:
        bucket = self.bucket
        if bucket is None:
            return stores.open(Access(self.place))
        return stores.open(Access(bucket.url, bucket.settings), lambda: bucket.credentials)

    def steps_of(self, run: str) -> int:
        """Return how many checkpoints of a run there are in the store."""
        return len(choosing.checkpoints(self.store, run))

    def wait_for_step(self, run: str, step: int, seconds: float = 90, told: Callable[[], str] = str) -> None:
        """Wait until a run has so many checkpoints; `told` gives what to look at where it never has."""
        wait_until(lambda: self.steps_of(run) >= step, seconds, lambda: f"{run} has {step} checkpoints\n{told()}")


@dataclass(kw_only=True)
class Site(Person):
    """A cluster as a target of this person."""

    cluster: Cluster
    target: Mapping[str, Any] = field(default_factory=dict)  # further keys of the target

    def __post_init__(self) -> None:
        folder = self.home / "config" / "launcher" / "targets"
        folder.mkdir(parents=True, exist_ok=True)
        told = {
            "kind": "slurm",
            "shared": str(self.cluster.shared / "launcher"),
            "scratch": "/scratch",
            "store": self.place,
            "runtime": "apptainer",
            "warn_s": 25,
            **self.target,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
        (folder / "cluster.toml").write_text("[target]\n" + "\n".join(lines) + "\n")
        (self.cluster.shared / "launcher").mkdir(exist_ok=True)

    @property
    def surroundings(self) -> Mapping[str, str]:
        return self.cluster.environment

    def experiment(
        self, name: str, starts: Sequence[int], *, steps: int = 12, pause: float = 0.5, sweep: str = "", more: str = "",
        resources: str = "",
    ) -> Path:  # fmt: skip
        """Write a spec and its script into a folder of their own; `starts` are the points."""
        folder = self.home / name
        folder.mkdir()
        shutil.copy(chain_sweep.__file__, folder / "chain_sweep.py")
        written = ", ".join(map(str, starts))
        text = SPEC.format(
            name=name, steps=steps, pause=pause, starts=written, sweep=sweep, more=more, resources=resources
        )
        (folder / "experiment.yaml").write_text(text)
        return folder / "experiment.yaml"

    def submit(self, spec: Path, *words: str) -> str:
        """Submit a spec; return the sweep's id."""
        return str(self.json("submit", str(spec), "--on", "cluster", *words)["sweep"])

    def status(self, sweep: str) -> dict[str, Any]:
        [told] = self.json("status", sweep, "--store", self.place, codes=(0, 1, 3))
        assert isinstance(told, dict)
        return told

    def wait(self, sweep: str, seconds: float = END_S, codes: Sequence[int] = (0,)) -> None:
        """Wait until the sweep is over, as a person would; `seconds` is what it may take on an idle machine."""
        seconds *= PATIENCE
        words = ["wait", sweep, "--store", self.place, "--timeout", f"{seconds:.0f}s"]
        process = self.start(*words)
        _, err = process.communicate(timeout=seconds + 120)
        if process.returncode not in codes:
            raise AssertionError(f"wait: code {process.returncode}\n{err.decode()[-3000:]}{self.told(sweep)}")

    def told(self, sweep: str) -> str:
        """Return what a person would look at when something went wrong."""
        told = [self.call("status", sweep, "--store", self.place, codes=(0, 1, 3))]
        told.append(self.cluster.slurm("squeue", "-a", check=False))
        folders = (self.cluster.shared / "launcher" / "sweeps" / sweep).glob("*/")
        newest = max(folders, key=lambda folder: folder.stat().st_mtime, default=self.home)
        for log in sorted(newest.glob("*.out"))[:5]:
            told.append(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
        return "\n".join(told)[-12000:]

    def plan(self, sweep: str) -> Any:
        return sweeps.plan(self.store, sweep)


class Watcher:
    """Asks for the status all the time, and keeps every answer."""

    def __init__(self, site: Site, sweep: str, every_s: float = 1.0) -> None:
        self.site, self.sweep, self.every_s = site, sweep, every_s
        self.answers: list[dict[int, str]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def __enter__(self) -> Watcher:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(120)

    def ask(self) -> None:
        while not self.over.wait(self.every_s):
            process = self.site.start("status", self.sweep, "--store", self.site.place, "--json")
            out, _ = process.communicate()
            if process.returncode in (0, 1, 3):  # a store that can't be read has nothing to say, and says nothing
                [told] = json.loads(out)
                self.answers.append({point["point"]: point["state"] for point in told["points"]})

    def must_have_been_honest(self) -> None:
        """No point was said to have failed or to be lost, and none that had succeeded was said to be anything else."""
        assert self.answers, "the status was never told"
        said = Counter(state for answer in self.answers for state in answer.values())
        assert set(said) <= HONEST, f"said of points that did not fail: {said}"
        done: set[int] = set()
        for answer in self.answers:
            assert all(answer[point] == "succeeded" for point in done), "what had succeeded was said not to have"
            done |= {point for point, state in answer.items() if state == "succeeded"}


def final_digest(store: Store, run: str) -> str:
    """Return one digest of all that a run's last checkpoint holds."""
    newest = choosing.checkpoints(store, run)[-1]
    told = [(line["path"], line["sha256"]) for line in newest["files"]]
    return sha256_bytes(json.dumps([newest["name"], told]).encode())


def undisturbed_digest(start: int, steps: int) -> str:
    """Return what `final_digest` is of a run that nothing happened to."""
    name = f"step-{steps:06d}"
    return sha256_bytes(json.dumps([name, [(name, sha256_bytes(chain_sweep.content(start, steps)))]]).encode())


def must_have_ended_well(site: Site, sweep: str, starts: Sequence[int], *, steps: int = 12) -> dict[int, Any]:
    """Judge a sweep that nobody meant to fail: every point is there, ended as if nothing had happened, and no two
    attempts of a run wrote at the same time. Returns the records by start."""
    plan = site.plan(sweep)
    found = {}
    for index, run in enumerate(plan.runs):
        start = {**plan.shared.params, **plan.params(index)}["start"]
        record = must_have_ended(site.store, run, start, steps=steps, told=lambda: site.told(sweep))
        found[start] = record
    assert sorted(found) == sorted(starts)
    return found


def must_have_ended(store: Store, run: str, start: int, *, steps: int, told: Callable[[], str] = str) -> Any:
    """Judge one run that nobody meant to fail: it ended as if nothing had happened. Returns its record."""
    record = records.load(store, run)
    assert record.state == "succeeded", f"{run}: {record.state}, {record.reason}\n{told()}"
    assert record.complete, f"{run}: {record.missing}"
    assert final_digest(store, run) == undisturbed_digest(start, steps), run
    must_not_have_overlapped(store, run)
    return record


def must_not_have_overlapped(store: Store, run: str) -> None:
    """No attempt wrote anything that counts after another one had taken the run."""
    began: list[tuple[str, int]] = []
    wrote: dict[int, str] = {}
    for attempt, events in events_of(store, run).items():
        taken = [event["time"] for event in events if event["kind"] in ("claimed", "restored", "started")]
        if taken:
            began.append((min(taken), attempt))
            wrote[attempt] = max(
                event["time"] for event in events if event["kind"] in ("checkpoint", "outputs", *["started"])
            )
    numbers = [attempt for _, attempt in sorted(began)]
    assert numbers == sorted(numbers), f"{run}: attempts began in the order {numbers}"
    for (_, earlier), (time, later) in zip(sorted(began), sorted(began)[1:], strict=False):
        assert wrote[earlier] <= time, f"{run}: attempt {earlier} wrote at {wrote[earlier]}, {later} began at {time}"


def events_of(store: Store, run: str) -> dict[int, list[dict[str, Any]]]:
    """Return the runner's events of each attempt; what a client or the node said of it is left out."""
    from launcher.store import keys

    found: dict[int, list[dict[str, Any]]] = {}
    for entry in store.list(keys.events(run)):
        event = json.loads(store.get(entry.key))
        if event.get("by") is None:
            found.setdefault(event["attempt"], []).append(event)
    return found


def host_side(cluster: Cluster, task: str) -> int:
    """Return the process id of the host side of a task, such as 812_7, as this machine counts."""
    own = cluster.slurm("squeue", "-h", "-r", "-j", task, "-o", "%A").split()
    assert own, f"there is no task {task}"
    wanted = f"SLURM_JOB_ID={own[0]}".encode()
    found = [pid for pid in processes() if is_host_side(words(pid)) and wanted in environ(pid)]
    assert found, f"the host side of {task} does not run"
    return min(found)


def is_host_side(args: list[str]) -> bool:
    """Tell it from srun and from the shell, which have the same words at their end."""
    return args[-3:-1] == ["-m", "launcher.node"] and Path(args[0]).name.startswith("python")


def container(of: int) -> int:
    """Return the first process of the container that a process has started, as this machine counts."""
    inside = [pid for pid in processes() if is_first(pid) and of in ancestors(pid)]
    assert inside, f"{of} has no container"
    return max(inside, key=lambda pid: len(ancestors(pid)))


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def words(pid: int) -> list[str]:
    return reading(f"/proc/{pid}/cmdline").decode(errors="replace").split("\0")[:-1]


def environ(pid: int) -> list[bytes]:
    return reading(f"/proc/{pid}/environ").split(b"\0")


def reading(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def facts(pid: int) -> dict[str, str]:
    lines = reading(f"/proc/{pid}/status").decode().splitlines()
    return dict(line.split(":", 1) for line in lines)


def is_first(pid: int) -> bool:
    """Tell whether a process is number 1 of a namespace of its own (proc(5), NSpid)."""
    numbers = facts(pid).get("NSpid", "").split()
    return len(numbers) > 2 and numbers[-1] == "1"


def ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while (parent := int(facts(pid).get("PPid", "0"))) > 0:
        found.append(parent)
        pid = parent
    return found
