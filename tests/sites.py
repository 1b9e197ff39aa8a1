"""A site's shared folder with a sweep delivered to it, as a submit leaves it, and host sides of tasks run from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from launcher import records, store
from launcher.cache import Cache
from launcher.code import snapshot
from launcher.image.oci import Image
from launcher.job import plan as planned
from launcher.job.sweeps import Plan
from launcher.job.sweeps import to_json as plan_json
from launcher.node import images
from launcher.node.order import Order
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.records import Record
from launcher.spec.model import CodeSpec, ImageSpec, Resources, Spec, Sweep
from launcher.store.access import Access
from launcher.store.objects import Store
from launcher.sweep import expand
from tests.patience import LONG_S

ROOT = Path(__file__).parents[1]
SCONTROL = """#!/bin/sh
echo "$@" >>"{log}"
[ "$2" != hostnames ] || { echo "$3" | tr , '\\n'; exit 0; }
[ "$2" != show ] || { cat "{log}.job" 2>/dev/null; exit 0; }
[ ! -e "{log}.refuse" ] || { echo "Requested operation is presently disabled for job" >&2; exit 1; }
"""
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One sweep on one site."""

    shared: Path
    plan: Plan
    order: Order
    bin: Path

    @property
    def file(self) -> Path:
        return Path(Places(str(self.shared)).order(self.order.sweep, self.order.token))

    @property
    def store(self) -> Store:
        return store.open(self.order.store)

    @property
    def requeued(self) -> list[str]:
        """What the fake scontrol was asked to requeue."""
        return [line for line in self.said if line.startswith("requeue")]

    @property
    def said(self) -> list[str]:
        """All that the fake scontrol was asked."""
        log = self.bin / "scontrol.log"
        return log.read_text().splitlines() if log.exists() else []

    def exclude(self, nodes: str) -> None:
        """Let the fake scontrol tell of nodes that the task is kept away from."""
        told = nodes or "(null)"
        (self.bin / "scontrol.log.job").write_text(f"JobId=7 JobState=COMPLETING ExcNodeList={told} Power=\n")

    def refuse_requeue(self) -> None:
        (self.bin / "scontrol.log.refuse").touch()

    def preempt(self) -> None:
        """Let the fake scontrol tell of a preemption."""
        (self.bin / "scontrol.log.job").write_text("JobId=7 JobState=RUNNING PreemptTime=2026-01-01T00:00:00 Power=\n")

    def environment(self, index: int = 0, **more: str) -> dict[str, str]:
        task = {"SLURM_JOB_ID": str(100 + index), "SLURM_ARRAY_JOB_ID": "99", "SLURM_ARRAY_TASK_ID": str(index)}
        path = {"PATH": f"{self.bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        return {**os.environ, **task, **path, "SLURMD_NODENAME": f"node{more.pop('node', '1')}", **more}

    def start(self, index: int = 0, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """Start the host side of a task."""
        self.state(index).unlink(missing_ok=True)  # as the batch script does
        return subprocess.Popen(
            [sys.executable, "-m", "launcher.node", str(self.file), *words],
            env=self.environment(index, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def task(self, index: int = 0, **more: str) -> subprocess.CompletedProcess[bytes]:
        """Run the host side of a task to its end."""
        process = self.start(index, **more)
        said, _ = process.communicate(timeout=LONG_S)
        return subprocess.CompletedProcess(process.args, process.returncode, said)

    def state(self, index: int = 0) -> Path:
        return Path(Places(str(self.shared)).submission(self.order.sweep, self.order.token), f"{index}.state.json")

    def told(self, index: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.state(index).read_bytes())
        return found

    def record(self, point: int = 0) -> Record:
        return records.load(self.store, self.plan.runs[point])

    def again(self, token: str) -> Site:
        """The same sweep, submitted once more."""
        order = replace(self.order, token=token, number=self.order.number + 1)
        site = replace(self, order=order)
        site.file.write_text(json.dumps(order.to_json()))
        return site


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a sweep of the tests is like. `script` is a Python program that gets the parameter `n`."""

    script: str
    points: int = 1
    pack: int = 1
    retries: int = 0
    restart: bool = True
    outputs: tuple[str, ...] = ("**",)
    resources: Resources = field(default_factory=Resources)
    argv: tuple[str, ...] = ("python3", "train.py")
    data: Mapping[str, Path] = field(default_factory=dict)


def deliver(shared: Path, cache: Cache, image: Image, wish: Wish, where: Access | None = None, **profile: Any) -> Site:
    """Put image, code, plan and order onto a shared folder."""
    code = shared.parent / f"{shared.name}-code"
    code.mkdir(exist_ok=True)
    (code / "train.py").write_text(wish.script)
    taken = snapshot(CodeSpec(root=code), cache)
    made = plan_of(wish, image, taken.digest, code)
    told = Profile(name="test", shared=str(shared), **{"runtime": "sandbox", "warn_s": 20, **profile})
    places = Places(str(shared))
    for name, content in images.files(image, cache, told.runtime):
        put(shared / name, content)
    put(Path(places.artifact(taken.digest)), taken.archive)
    put(Path(places.plan(made.sweep, "0" * 64)), plan_json(made))
    order = Order(
        sweep=made.sweep,
        token="t0",
        number=1,
        groups=groups(wish),
        plan=places.plan(made.sweep, "0" * 64),
        tools=str(shared / "tools"),
        profile=told,
        store=where or Access(f"file://{shared}/store"),
        image=image.id,
        code=places.artifact(taken.digest),
        data={name: str(path) for name, path in wish.data.items()},
        who="ada",
    )
    site = Site(shared=shared, plan=made, order=order, bin=programs(shared))
    put(site.file, json.dumps(order.to_json()).encode())
    return site


def groups(wish: Wish) -> tuple[tuple[int, ...], ...]:
    every = list(range(wish.points))
    return tuple(tuple(every[at : at + wish.pack]) for at in range(0, len(every), wish.pack))


def plan_of(wish: Wish, image: Image, code: str, folder: Path) -> Plan:
    spec = Spec(
        name="t",
        image=ImageSpec(),
        code=CodeSpec(root=folder),
        run=wish.argv,
        params={"n": 0},
        sweep=Sweep(grid={"n": tuple(range(wish.points))}, pack=wish.pack),
        retries=wish.retries,
        restart=wish.restart,
        resources=wish.resources,
        outputs=wish.outputs,
        file=folder / "experiment.yaml",
    )
    now = datetime.now(timezone.utc)
    given = {"lock": "0" * 64, "image": image.id, "code": code, "data": dict.fromkeys(wish.data, "1" * 64)}
    jobs = planned(spec, now=now, entropy=os.urandom(4), points=expand(spec), **given)  # type: ignore[arg-type]
    return Plan.of(jobs, spec, when=now, who="ada", code_facts={"commit": "abc"})


def put(place: Path, content: Path | bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def programs(shared: Path) -> Path:
    """Make a folder with a fake scontrol and srun."""
    folder = shared / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"scontrol": SCONTROL.replace("{log}", str(folder / "scontrol.log")), "srun": SRUN}
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def decisions(record: Record) -> Sequence[str | None]:
    return [(attempt.parted or {}).get("decision") for attempt in record.attempts]
