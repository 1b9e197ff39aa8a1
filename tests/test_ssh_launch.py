"""Launching on a box that is a folder of this machine: a warm start in few round trips, and taken up again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher import store as stores
from launcher.box import state
from launcher.box.model import State
from launcher.cache import Cache
from launcher.code import Code, snapshot
from launcher.errors import TargetError
from launcher.image.oci import Image
from launcher.job import Job
from launcher.job import plan as planned
from launcher.profiles.model import Profile
from launcher.remote.here import Here
from launcher.remote.model import Done, Stream
from launcher.spec.model import CodeSpec, ImageSpec, Spec
from launcher.ssh.cancelling import cancel
from launcher.ssh.door import last_sent, sent
from launcher.ssh.following import follow
from launcher.ssh.launching import Launched, launch
from launcher.ssh.pulling import pull
from launcher.ssh.shipping import ship
from launcher.ssh.states import states
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.rootfs import tiny_image
from tests.test_ssh_relay import Hearing

COUNTS = """import os, pathlib, sys
folder = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT_DIR"])
done = max((int(p.name.split("-")[1]) for p in folder.glob("step-*")), default=0)
print("from", done, flush=True)
for step in range(done + 1, 7):
    (folder / ".new").write_text(str(step) * 1000)
    (folder / ".new").rename(folder / f"step-{step}")
    if step == 3 and not done:
        sys.exit(7)
print("done")
"""


class Away:
    """This machine as one that is far: every byte goes through pipes, and the line can be cut at a round trip."""

    where = "box"

    def __init__(self, cut_at: int | None = None, before: bool = False) -> None:
        self.inner, self.trips, self.cut_at, self.before = Here(), 0, cut_at, before

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Done:
        self.trips += 1
        cut = self.cut_at == self.trips
        if cut and self.before:
            raise KeyboardInterrupt
        done = self.inner.run(argv, stdin=stdin, timeout_s=timeout_s)
        if cut:  # the client is killed: it hears no answer
            raise KeyboardInterrupt
        return done

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"", hold: bool = False) -> AbstractContextManager[Stream]:
        return self.inner.stream(argv, stdin=stdin, hold=hold)

    def forward(self, port: int) -> AbstractContextManager[int]:
        return self.inner.forward(port)

    def close(self) -> None:
        return


class Client:
    """Somebody with a cache, a store in a folder, and boxes that are folders."""

    def __init__(self, root: Path, cache: Cache, image: Image) -> None:
        self.root, self.cache, self.image = root, cache, image
        self.access = Access(str(root / "store"))
        self.store: Store = stores.open(self.access)
        self.profile = self.box("box")

    def box(self, name: str) -> Profile:
        shared = str(self.root / f"{name}'s $folder")
        return Profile(name=name, kind="ssh", host="box.example.org", shared=shared, runtime="sandbox")

    def job(self, script: str) -> tuple[Job, Code]:
        folder = self.root / "code"
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(script)
        taken = snapshot(CodeSpec(root=folder), self.cache)
        spec = Spec(
            name="t", image=ImageSpec(), code=CodeSpec(root=folder), run=("python3", "train.py"),
            file=folder / "experiment.yaml",
        )  # fmt: skip
        made: dict[str, Any] = {"lock": "0" * 64, "image": self.image.id, "code": taken.digest, "points": None}
        [job] = planned(spec, now=datetime.now(timezone.utc), entropy=os.urandom(4), **made)
        return job, taken

    def launch(self, job: Job, code: Code, shell: Away, profile: Profile | None = None, attempt: int = 1) -> Launched:
        told: dict[str, Any] = {"job": job, "image": self.image, "code": code.archive, "data": {}, "attempt": attempt}
        told |= {"opened": self.store, "access": self.access, "cache": self.cache, "code_facts": None}
        return launch(shell, profile or self.profile, **told)

    def follow(self, started: Launched, heard: Hearing, profile: Profile | None = None) -> State:
        told: dict[str, Any] = {"output": heard.output, "tell": heard.states.append, "note": heard.notes.append}
        profile = profile or self.profile
        return follow(profile, started.run, tools=started.tools, opened=self.store, shell=Away(), **told)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("launch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_CACHE", str(root / "cache"))
        cache = Cache(root / "cache")
        found = Client(root, cache, tiny_image(cache))
        yield found
        for profile in (found.profile, found.box("other")):
            going = [one.run for one in states(profile, None, shell=Away()) if not one.over]
            cancel(profile, going, shell=Away())


def test_a_run_goes_from_nothing_to_its_record(client: Client) -> None:
    job, code = client.job("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)\n")
    started, heard = client.launch(job, code, Away()), Hearing()
    assert started.ship == "relay" and started.run == job.run
    found = client.follow(started, heard)
    assert (found.phase, found.code) == ("ended", 3)
    assert bytes(heard.data[1]) == b"out\n" and b"err\n" in heard.data[2]
    record = records.load(client.store, job.run)
    assert (record.state, record.complete) == ("failed", True)
    told = last_sent(client.store, job.run)
    assert told is not None and (told.target, told.ship, told.kind) == ("box", "relay", "ssh")
    assert (state.folder(client.profile.shared, job.run) / state.RELAYED).exists()


def test_a_warm_start_takes_three_round_trips_and_one_more_with_an_engine(client: Client) -> None:
    """Look, send, start; an engine is asked for the image between."""
    cold, warm = Away(), Away()
    client.launch(*client.job("print(1)\n"), cold)
    started = client.launch(*client.job("print(2)\n"), warm)
    assert warm.trips == 3
    heard = Hearing()
    assert client.follow(started, heard).code == 0 and bytes(heard.data[1]) == b"2\n"


@pytest.mark.parametrize(("trip", "before"), [(1, False), (2, True), (3, True), (3, False)])
def test_a_client_that_is_killed_goes_on_by_the_same_call(client: Client, trip: int, before: bool) -> None:
    job, code = client.job("import time\nprint('once', flush=True)\ntime.sleep(0.5)\n")
    with pytest.raises(KeyboardInterrupt):
        client.launch(job, code, Away(trip, before))
    started, heard = client.launch(job, code, Away()), Hearing()
    assert client.follow(started, heard).code == 0
    assert bytes(heard.data[1]) == b"once\n"
    record = records.load(client.store, job.run)
    assert len(record.attempts) == 1 and record.state == "succeeded"
    assert len(sent(client.store, job.run)) == 1


def test_somebody_elses_attempt_is_refused(client: Client) -> None:
    job, code = client.job("print(1)\n")
    from launcher.job.wire import to_values

    records.submit(client.store, to_values(job), who="somebody")
    with pytest.raises(TargetError, match="somebody else has begun attempt 1"):
        client.launch(job, code, Away())


def test_a_run_goes_on_on_another_box_from_its_last_checkpoint(client: Client) -> None:
    job, code = client.job(COUNTS)
    first = client.launch(job, code, Away())
    assert client.follow(first, Hearing()).code == 7
    other, heard = client.box("other"), Hearing()
    second = client.launch(job, code, Away(), other, attempt=2)
    assert client.follow(second, heard, other).code == 0
    assert bytes(heard.data[1]) == b"from 3\ndone\n"
    record = records.load(client.store, job.run)
    assert (record.state, len(record.attempts)) == ("succeeded", 2)
    assert [one.target for one in sent(client.store, job.run)] == ["box", "other"]
    # and back on the first one, whose own line is behind: there is nothing to go on with, and nothing is mixed
    before = {entry.key for entry in client.store.list()}
    done = pull(client.profile, job.run, client.store, shell=Away())
    assert not done.objects and {entry.key for entry in client.store.list()} == before


def test_states_and_cancel(client: Client) -> None:
    job, code = client.job("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    started = client.launch(job, code, Away())
    assert [one.run for one in states(client.profile, [job.run, "nobody"], shell=Away())] == [job.run]
    cancel(client.profile, [job.run], shell=Away())
    assert client.follow(started, Hearing()).phase == "cancelled"


def test_who_writes_to_the_store() -> None:
    box = Profile(name="b", kind="ssh", host="h")
    bucket, folder = Access("s3://bucket"), Access("/some/folder")
    assert (ship(box, bucket), ship(box, folder)) == ("direct", "relay")
    from dataclasses import replace

    assert ship(replace(box, outbound=False), bucket) == "relay"
    assert ship(replace(box, ship="relay"), bucket) == "relay"
    assert ship(replace(box, outbound=False, ship="direct"), bucket) == "direct"
    with pytest.raises(TargetError, match="folder of this machine"):
        ship(replace(box, ship="direct"), folder)
    with pytest.raises(TargetError, match="memory"):
        ship(box, Access("memory://"))
