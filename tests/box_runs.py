"""A run that was delivered to a box's folder, as a launch leaves it, and the agent and host side that work there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from launcher import records, store
from launcher.box import agent, output, state
from launcher.box.model import Order, State, state_from
from launcher.cache import Cache
from launcher.code import snapshot
from launcher.image.oci import Image
from launcher.job import plan as planned
from launcher.job.wire import to_values
from launcher.node import images
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.records import Record
from launcher.spec.model import CodeSpec, ImageSpec, Resources, Spec
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.patience import LONG_S

ROOT = Path(__file__).parents[1]
AGENT = """import json, sys
from launcher.box import agent
print(json.dumps(agent.FUNCTIONS[sys.argv[1]](json.loads(sys.argv[2]))))"""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a run of the tests is like."""

    script: str
    retries: int = 0
    restart: bool = True
    outputs: tuple[str, ...] = ("**",)
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True, kw_only=True)
class BoxRun:
    """One run in a box's folder."""

    shared: Path
    order: Order
    env: Mapping[str, str]

    @property
    def run(self) -> str:
        return self.order.run

    @property
    def folder(self) -> Path:
        return state.folder(str(self.shared), self.run)

    @property
    def store(self) -> Store:
        return store.open(self.order.store)

    @property
    def state(self) -> State:
        return state.read(self.folder)

    @property
    def record(self) -> Record:
        return records.load(self.store, self.run)

    @property
    def log(self) -> str:
        path = self.folder / state.LOG
        return path.read_text() if path.exists() else ""

    def ask(self, call: str, **argument: Any) -> Any:
        """Ask the agent: here, or where the run wants another environment in a process of its own."""
        if not self.env:
            return agent.FUNCTIONS[call](argument)
        done = subprocess.run(
            [sys.executable, "-c", AGENT, call, json.dumps(argument)],
            env={**os.environ, **self.env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONG_S,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout.splitlines()[-1])

    def start(self) -> State:
        return state_from(self.ask("start", order=str(self.folder / state.ORDER)))

    def states(self) -> list[State]:
        return [state_from(one) for one in self.ask("states", shared=str(self.shared), runs=None)]

    def cancel(self) -> State:
        return state_from(self.ask("cancel", shared=str(self.shared), runs=[self.run])[0])

    def until(self, is_so: Callable[[], Any], limit_s: float = LONG_S) -> Any:
        """Wait until something is so."""
        end = time.monotonic() + limit_s
        while not (found := is_so()):
            assert time.monotonic() < end, f"{self.state}\n{self.log}\n{self.printed()!r}"
            time.sleep(0.05)
        return found

    def over(self) -> State:
        """Wait for the end of the run, and of its host side."""
        self.until(lambda: self.state.over and not self.state.alive)
        return self.state

    def host(self) -> int:
        """Return the process of the living host side."""
        return int(self.until(lambda: state.holder(self.folder)))

    def printed(self, *streams: int) -> bytes:
        frames = output.read(self.folder / output.NAME)
        return b"".join(one.data for one in frames if one.stream in (streams or (1,)))

    def says(self, words: bytes) -> None:
        self.until(lambda: words in self.printed(0, 1, 2))

    def with_order(self, **changes: Any) -> BoxRun:
        """Write another order in this one's place."""
        order = replace(self.order, **changes)
        (self.folder / state.ORDER).write_text(json.dumps(order.to_json()))
        return replace(self, order=order)


def deliver(
    shared: Path,
    cache: Cache,
    image: Image,
    wish: Wish,
    *,
    where: Access | None = None,
    reference: str | None = None,
    env: Mapping[str, str] | None = None,
    **profile: Any,
) -> BoxRun:
    """Put image, code and order into a box's folder, and queue the first attempt in the store."""
    told = Profile(
        **{
            "name": "box",
            "kind": "ssh",
            "host": "box.example.org",
            "shared": str(shared),
            "runtime": "sandbox",
            "warn_s": 20,
            **profile,
        }
    )
    code = shared.parent / f"{shared.name}-code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "train.py").write_text(wish.script)
    taken = snapshot(CodeSpec(root=code), cache)
    places = Places(str(shared))
    for path, content in images.files(image, cache, told.runtime):
        put(shared / path, content)
    put(Path(places.artifact(taken.digest)), taken.archive)
    spec = Spec(
        name="t", image=ImageSpec(), code=CodeSpec(root=code), run=("python3", "train.py"), retries=wish.retries,
        restart=wish.restart, resources=wish.resources, outputs=wish.outputs, file=code / "experiment.yaml",
    )  # fmt: skip
    now = datetime.now(timezone.utc)
    [job] = planned(spec, now=now, entropy=os.urandom(4), points=None, lock="0" * 64, image=image.id, code=taken.digest)
    order = Order(
        run=job.run, job=to_values(job), attempt=1, tools=str(shared / "tools"), profile=told,
        store=where or Access(f"file://{shared}/store"), ship="direct" if where else "relay", image=image.id,
        reference=reference, code=places.artifact(taken.digest), who="ada",
    )  # fmt: skip
    found = BoxRun(shared=shared, order=order, env=env or {})
    put(found.folder / state.ORDER, json.dumps(order.to_json()).encode())
    records.submit(found.store, order.job, who="ada", scheduler={"kind": "ssh", "target": "box"})
    return found


def put(place: Path, content: Path | bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def decisions(record: Record) -> Sequence[str | None]:
    return [(attempt.parted or {}).get("decision") for attempt in record.attempts]
