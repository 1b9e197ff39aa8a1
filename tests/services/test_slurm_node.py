"""The host side on nodes of a real Slurm, with real Apptainer: staging, requeues, kills, memory, GPUs, two nodes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from launcher.image.oci import Image
from launcher.profiles.places import Places
from launcher.records import Record
from launcher.remote.delivery import prepare
from launcher.remote.here import Here
from launcher.slurm.options import options
from launcher.slurm.script import text
from launcher.spec.model import Gpus, Resources
from launcher.store import keys
from tests.clusters import Cluster, wait_until
from tests.rootfs import tiny_image
from tests.services.podman_places import CONTAINERS, STORAGE
from tests.sites import Site, Wish, decisions, deliver, put

pytestmark = pytest.mark.services

COUNTING = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT_DIR"])
done = max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0)
print("from", done, "as", os.getuid(), flush=True)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while done < {steps} and not stop:
    time.sleep(0.5)
    done += 1
    (folder / ".new").write_text(str(done))
    (folder / ".new").rename(folder / str(done))
    while int(os.environ["LAUNCHER_ATTEMPT"]) <= {held} and not stop:
        time.sleep(0.05)  # an attempt that the test is to end does not end by itself
if stop:
    sys.exit(143)
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "sum").write_text(str(done))
"""
NUMBERS = itertools.count(1)


def counting(steps: int, held: int = 0) -> str:
    """Return a script that counts; so many attempts wait after one step for what is to happen to them."""
    return COUNTING.replace("{steps}", str(steps)).replace("{held}", str(held))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("slurm-node-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache, mount_points=True)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A sweep that was submitted."""

    site: Site
    cluster: Cluster
    job: str

    def slurm_state(self, task: int = 0) -> str:
        name = f"{self.job}_{task}" if len(self.site.order.groups) > 1 else self.job
        return self.cluster.slurm("squeue", "-h", "-j", name, "-o", "%T", check=False).strip()

    def wait(self, seconds: float = 120) -> None:
        wait_until(lambda: not self.cluster.slurm("squeue", "-h", "-j", self.job, check=False).strip(), seconds, "over")

    def output(self, task: int = 0) -> str:
        folder = Path(Places(str(self.site.shared)).submission(self.site.order.sweep, self.site.order.token))
        return (folder / f"{task}.out").read_text() if (folder / f"{task}.out").exists() else ""

    def says(self, words: str, task: int = 0, seconds: float = 60) -> None:
        wait_until(lambda: words in self.output(task), seconds, f"{words!r} in {self.output(task)!r}")

    def record(self, point: int = 0) -> Record:
        return self.site.record(point)


Submit = Callable[..., Sent]


@pytest.fixture
def submit(cluster: Cluster, cache: Cache, image: Image) -> Iterator[Submit]:
    """Deliver a sweep and hand it to sbatch; what is left of it is cancelled at the end."""
    cluster.ready()
    jobs: list[str] = []

    def work(wish: Wish, user: str | None = None, more: tuple[str, ...] = (), **profile: Any) -> Sent:
        shared = cluster.shared / f"node-{os.getpid()}-{next(NUMBERS)}"
        site = deliver(shared, cache, image, wish, **{"runtime": "apptainer", "scratch": "/tmp/scratch", **profile})
        _, tools = prepare(Here(), replace(site.order.profile, python="/usr/bin/python3"), [], cache)
        site = replace(site, order=replace(site.order, tools=tools))
        job = site.plan.job(0)
        asked = options(job, site.order.profile, pack=wish.pack)
        script = shared / "submission.sh"
        put(site.file, json.dumps(site.order.to_json()).encode())
        put(script, text(site.order, asked).encode())
        Path(Places(str(shared)).submission(site.order.sweep, site.order.token)).mkdir(exist_ok=True)
        words = ["sbatch", "--parsable", "--chdir=/", *more, str(script)]
        if user:
            cluster.login_node.exec("chown", "-R", user, str(shared))
            told = cluster.login_node.exec(*words, user=user).stdout
        else:
            told = cluster.slurm(*words)
        jobs.append(told.strip().partition(";")[0])
        return Sent(site=site, cluster=cluster, job=jobs[-1])

    yield work
    for job in jobs:
        cluster.slurm("scancel", job, check=False)


def test_an_ordinary_user_runs_points_from_a_copy_of_the_image(submit: Submit, cluster: Cluster) -> None:
    wish = Wish(script=counting(2), points=3, resources=Resources(cpus=1))
    sent = submit(wish, user="ada")
    sent.wait()
    for task in range(3):
        record = sent.record(task)
        assert (record.state, record.complete) == ("succeeded", True), sent.output(task)
        assert record.scheduler is not None
        assert record.scheduler["job"] == f"{sent.job}_{task}"
        assert (record.host or {})["node"] == record.scheduler["node"]
        assert "from 0 as 0" not in sent.output(task)
    copies = sum(sent.output(task).count("copied the image to this node") for task in range(3))
    assert 1 <= copies <= 3


def test_a_requeue_goes_on_from_the_last_checkpoint(submit: Submit, cluster: Cluster) -> None:
    sent = submit(Wish(script=counting(12, held=1)))
    sent.says("from 0")
    wait_until(lambda: sent.record().checkpoints, 60, "a checkpoint")
    cluster.slurm("scontrol", "requeue", sent.job)
    sent.wait()
    record = sent.record()
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 2), sent.output()
    assert record.attempts[1].restored is not None
    assert sent.site.store.get(keys.output(record.run, 2, "sum")) == b"12"
    assert sent.output().count("from ") == 2, "the log is appended to"


def test_a_time_limit_is_the_end_of_an_attempt_only(submit: Submit) -> None:
    sent = submit(Wish(script=counting(60), resources=Resources(time_s=60)), warn_s=45)
    sent.wait(240)
    record = sent.record()
    assert record.state == "succeeded", sent.output()
    assert decisions(record)[0] == "requeue"
    assert (record.attempts[0].parted or {})["cause"] == "time limit"


def test_a_container_and_a_host_side_that_are_killed(submit: Submit, cluster: Cluster) -> None:
    sent = submit(Wish(script=counting(8, held=2)))
    sent.says("from 0")
    node = cluster.node(int(str((sent.record().scheduler or {})["node"])[-1]))
    node.exec("pkill", "-KILL", "-f", "^Apptainer runtime|appinit", check=False)
    wait_until(lambda: sent.output().count("from ") == 2, 60, "the next attempt")
    node.exec("pkill", "-KILL", "-f", "launcher.node")
    sent.wait(180)
    record = sent.record()
    assert record.state == "succeeded", sent.output()
    assert len(record.attempts) >= 3


def test_want_of_memory_is_the_users_failure(submit: Submit) -> None:
    script = "x = []\nwhile True: x.append(bytearray(10_000_000))\n"
    sent = submit(Wish(script=script, resources=Resources(memory_bytes=200 << 20)))
    sent.wait()
    record = sent.record()
    assert decisions(record) == ["failed"], sent.output()
    assert (record.attempts[0].parted or {})["cause"] == "memory"
    assert "it needed more memory than it was given" in str(record.reason)


def test_a_container_sees_the_gpus_that_slurm_gave(submit: Submit) -> None:
    script = (
        "import glob, os, time\n"
        "print('sees', sorted(glob.glob('/dev/nvidia[0-9]*')), os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
        "time.sleep(3)\n"
    )
    sent = submit(Wish(script=script, points=2, resources=Resources(gpus=Gpus(count=1))), partition="gpu")
    sent.wait()
    seen = [line for task in range(2) for line in sent.output(task).splitlines() if line.startswith("sees")]
    assert len(seen) == 2
    assert all(line.count("/dev/nvidia") == 1 for line in seen), seen
    assert [len(sent.record(task).attempts) for task in range(2)] == [1, 1]
    assert all((sent.record(task).scheduler or {})["node"] != "node1" for task in range(2))


def test_packed_points_are_steps_of_one_task(submit: Submit) -> None:
    script = counting(10)
    sent = submit(Wish(script=script, points=6, pack=4, resources=Resources(cpus=1)))
    sent.wait()
    records = [sent.record(point) for point in range(6)]
    assert [record.state for record in records] == ["succeeded"] * 6, sent.output(0) + sent.output(1)
    tasks = [(record.scheduler or {})["job"] for record in records]
    assert len(set(tasks[:4])) == len(set(tasks[4:])) == 1 and tasks[0] != tasks[4]
    begun, ended = max(str(one.started) for one in records[:4]), min(str(one.ended) for one in records[:4])
    assert begun < ended, "the four run at once"


def test_two_nodes_run_one_attempt(submit: Submit) -> None:
    script = (
        "import os, pathlib, socket, time\n"
        "rank, port = os.environ['NODE_RANK'], int(os.environ['MASTER_PORT'])\n"
        "if rank == '0':\n"
        "    server = socket.create_server(('', port)); other, _ = server.accept(); said = other.recv(9)\n"
        "    pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'], 'said').write_bytes(said)\n"
        "else:\n"
        "    for _ in range(100):\n"
        "        try: s = socket.create_connection((os.environ['MASTER_ADDR'], port)); break\n"
        "        except OSError: time.sleep(0.1)\n"
        "    s.sendall(b'hello'); s.close()\n"
    )
    sent = submit(Wish(script=script, resources=Resources(nodes=2)), more=("--nodes=2",))
    sent.wait()
    record = sent.record()
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 1), sent.output()
    assert sent.site.store.get(keys.output(record.run, 1, "said")) == b"hello"


def test_two_nodes_make_way_for_their_time_limit_and_go_on(submit: Submit, cluster: Cluster) -> None:
    script = (
        "import os, time\n"
        "if os.environ['NODE_RANK'] != '0':\n"
        "    print('other', os.environ['LAUNCHER_ATTEMPT'], flush=True)\n"
        "    time.sleep(600)\n"
    ) + counting(8, held=1)
    sent = submit(Wish(script=script, resources=Resources(nodes=2)), more=("--nodes=2",))
    sent.says("from 0")
    sent.says("other 1")
    wait_until(lambda: sent.record().checkpoints, 60, "a checkpoint")
    cluster.slurm("scancel", "--signal=USR2", sent.job)  # what Slurm sends to all steps before the limit
    sent.wait()
    record = sent.record()
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 2), sent.output()
    assert (record.attempts[0].parted or {})["cause"] == "time limit"
    assert record.attempts[1].restored is not None
    assert "other 2" in sent.output()


@pytest.mark.skipif(not shutil.which("podman"), reason="there is no podman")
def test_podman_where_a_site_has_that(submit: Submit, cluster: Cluster) -> None:
    """It needs no more of launcher on the node than Apptainer does; the machine's quirks are the settings' to know."""
    settings = cluster.shared / "podman"
    settings.mkdir(exist_ok=True)
    runc = 'runtime = "runc"\n' if shutil.which("runc") else ""
    (settings / "containers.conf").write_text(CONTAINERS.format("/tmp/podman") + runc)
    (settings / "storage.conf").write_text(STORAGE.format("/tmp/podman"))
    words = f"export CONTAINERS_CONF={settings}/containers.conf CONTAINERS_STORAGE_CONF={settings}/storage.conf"
    sent = submit(Wish(script=counting(2)), runtime="podman", setup=(words,))
    sent.wait()
    record = sent.record()
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 1), sent.output()
    assert sent.site.store.get(keys.output(record.run, 1, "sum")) == b"2"
