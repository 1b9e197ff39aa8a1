"""The host side of a task, run as Slurm would run it: attempts, signals, requeues, retries, several points, nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher import records
from launcher import store as stores
from launcher.cache import Cache
from launcher.cli.show import attempt, slurm
from launcher.image.oci import Image
from launcher.node import main
from launcher.node import order as orders
from launcher.profiles.model import Partition
from launcher.records import logs
from launcher.spec.model import Gpus, Resources
from launcher.store import keys
from launcher.store.access import Access
from launcher.target.apptainer_watch import children
from tests.attempts import wait_for
from tests.object_stores import REGION, Faulty
from tests.patience import LONG_S
from tests.rootfs import tiny_image
from tests.sites import Site, Wish, decisions, deliver

COUNTING = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT_DIR"])
done = max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0)
print("from", done, flush=True)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while done < 5 and not stop:
    time.sleep(0.2)
    done += 1
    (folder / ".new").write_text(str(done))
    (folder / ".new").rename(folder / str(done))
    while os.environ["LAUNCHER_ATTEMPT"] == "1" and not stop and not (folder / ".go").exists():
        time.sleep(0.02)  # until the test has done what it wants to do while this runs
if stop:
    sys.exit(143)
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "sum").write_text(str(done))
"""
WAITING = "import time\nprint('going', flush=True)\ntime.sleep(60)\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("node-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache)


Make = Callable[..., Site]


@pytest.fixture
def site(cache: Cache, image: Image, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a site whose nodes have a scratch folder; it is the same for all tests, as an image lies there."""
    scratch = tmp_path_factory.getbasetemp() / "node-scratch"

    def make(wish: Wish, where: Access | None = None, **profile: Any) -> Site:
        return deliver(tmp_path / "shared", cache, image, wish, where, **{"scratch": str(scratch), **profile})

    return make


def until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Read what a host side says until it has said these words."""
    said = b""
    assert process.stdout is not None
    while words not in said:
        line = process.stdout.readline()
        assert line, f"it ended: {said.decode()}"
        said += line
    return said


def test_a_point_runs_and_is_told_of(site: Make) -> None:
    one = site(Wish(script="import os\nprint('n', os.environ['LAUNCHER_PARAM_N'])\n", points=2))
    done = one.task(1)
    assert done.returncode == 0, done.stdout.decode()
    assert b"n 1" in done.stdout
    assert (one.told(1)["decision"], one.told(1)["run"]) == ("done", one.plan.runs[1])
    record = one.record(1)
    assert (record.state, record.complete, record.who) == ("succeeded", True, "ada")
    assert record.code_facts == {"commit": "abc"}
    assert record.scheduler == {
        "kind": "slurm",
        "job": "99_1",
        "own_job": "101",
        "node": "node1",
        "restart": 0,
        "submission": 1,
        "token": "t0",
    }
    assert one.store.get(keys.point(one.plan.group, one.plan.digests[1])) == one.plan.runs[1].encode()
    assert not one.requeued


def test_what_has_succeeded_or_is_not_wanted_is_not_run_again(site: Make) -> None:
    one = site(Wish(script="print('ran')\n", points=2))
    one.task(0)
    again = one.again("t1")
    assert b"ran" not in again.task(0).stdout
    assert (again.told(0)["decision"], len(again.record(0).attempts)) == ("done", 1)
    one.store.create(keys.cancelled(one.order.sweep), b'{"points": [1]}')
    assert b"ran" not in again.task(1).stdout
    assert again.told(1)["why"] == "it was cancelled"


def test_time_limit_saves_requeues_and_goes_on(site: Make) -> None:
    one = site(Wish(script=COUNTING))
    process = one.start(SLURM_JOB_END_TIME=str(int(time.time()) + 30))
    until(process, b"from 0")
    wait_for(lambda: one.record().checkpoints)
    process.send_signal(signal.SIGUSR2)
    said, _ = process.communicate(timeout=LONG_S)
    assert (process.returncode, one.told()["decision"]) == (75, "requeue"), said.decode()
    assert one.requeued == ["requeue 99_0"]
    first = one.record()
    assert (first.state, decisions(first)) == ("killed", ["requeue"])
    assert (first.attempts[0].parted or {})["cause"] == "time limit"
    assert first.checkpoints

    second = one.task(SLURM_RESTART_COUNT="1", node="2")
    assert second.returncode == 0, second.stdout.decode()
    assert b"from 0" not in second.stdout
    record = one.record()
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 2)
    assert record.attempts[1].restored is not None
    assert one.store.get(keys.output(record.run, 2, "sum")) == b"5"
    assert slurm(record.scheduler) == "job 99_0 on node2"
    assert attempt(record.attempts[0]).endswith("job 99_0 on node1; queued again: its time limit was near")


def test_a_term_stops_and_leaves_the_rest_to_slurm(site: Make) -> None:
    one = site(Wish(script=COUNTING))
    process = one.start()
    until(process, b"from 0")
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG_S)
    assert (process.returncode, one.told()["decision"], one.told()["kind"]) == (75, "hold", "asked")
    assert not one.requeued


def test_three_time_limits_without_a_checkpoint_lead_nowhere(site: Make) -> None:
    one = site(Wish(script=WAITING))
    for restart in range(3):
        process = one.start(SLURM_RESTART_COUNT=str(restart))
        until(process, b"going")
        process.send_signal(signal.SIGUSR2)
        process.communicate(timeout=LONG_S)
    assert one.requeued == ["requeue 99_0"] * 2
    assert (one.told()["decision"], one.told()["kind"]) == ("failed", "stuck")
    assert "3 attempts in a row reached their time limit" in one.told()["why"]
    assert b"going" not in one.task().stdout
    assert len(one.record().attempts) == 3


def test_a_warning_may_be_a_preemptions(site: Make) -> None:
    one = site(Wish(script=WAITING))
    one.preempt()
    process = one.start()
    until(process, b"going")
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=LONG_S)
    assert (one.told()["decision"], one.told()["kind"]) == ("requeue", "preempted")


def test_a_failure_is_the_commands_own_and_retried_only_as_the_spec_says(site: Make) -> None:
    one = site(Wish(script="import sys\nprint('try')\nsys.exit(7)\n", retries=1))
    done = one.task()
    assert (done.returncode, done.stdout.count(b"try\n")) == (7, 2), done.stdout.decode()
    assert decisions(one.record()) == ["again", "failed"]
    assert one.told()["decision"] == "failed"
    assert b"try\n" not in one.task().stdout, "Slurm requeued it: the last word stays"
    assert one.again("t1").task().stdout.count(b"try\n") == 2, "a person asked for it"


def test_a_container_that_is_killed_goes_on_here_and_then_elsewhere(site: Make) -> None:
    one = site(Wish(script=WAITING))
    process = one.start()
    for _ in range(2):
        until(process, b"going")
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=LONG_S)
    assert one.told()["decision"] == "requeue", one.told()
    assert decisions(one.record()) == ["again", "requeue"]
    assert one.requeued == ["requeue 99_0"]


def test_the_next_task_goes_on_after_a_host_side_was_killed(site: Make) -> None:
    one = site(Wish(script=COUNTING))
    process = one.start()
    until(process, b"from 0")
    wait_for(lambda: one.record().checkpoints)
    process.kill()
    process.communicate()
    assert not one.state().exists(), "so the batch script knows that nobody had a last word"
    done = one.task(SLURM_RESTART_COUNT="1")
    assert done.returncode == 0, done.stdout.decode()
    record = one.record()
    assert (record.state, len(record.attempts)) == ("succeeded", 2)
    assert record.attempts[0].state == "killed"


def test_an_attempt_that_only_waited_for_another_leaves_nothing(site: Make) -> None:
    """As after a cut node was given up: its copy of the task goes on beside the requeued one."""
    one = site(Wish(script=COUNTING), scratch=None)
    first = one.start()
    until(first, b"from 0")
    elsewhere = site(Wish(script=""), scratch="$ELSEWHERE").order.profile
    second = replace(one, order=replace(one.order, profile=elsewhere)).again("t0")
    other = second.start(node="2", ELSEWHERE=str(one.shared / "other"))
    until(other, b"waiting for it")
    other.send_signal(signal.SIGTERM)
    other.communicate(timeout=LONG_S)
    assert (one.told()["decision"], one.told()["kind"]) == ("hold", "asked")
    assert [attempt.attempt for attempt in one.record().attempts] == [1]
    assert one.record().state == "running"
    saved = wait_for(lambda: [path for path in one.shared.rglob("checkpoints/1") if path.is_file()])
    saved[0].with_name(".go").touch()
    first.communicate(timeout=LONG_S)
    assert one.record().state == "succeeded"


def test_a_refused_requeue_is_held_and_said(site: Make) -> None:
    one = site(Wish(script=WAITING))
    one.refuse_requeue()
    process = one.start()
    until(process, b"going")
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=LONG_S)
    assert one.told()["decision"] == "hold"
    assert "presently disabled" in one.told()["why"]
    assert decisions(one.record()) == ["hold"]


def test_what_must_not_restart_is_held(site: Make) -> None:
    one = site(Wish(script=WAITING, restart=False))
    process = one.start()
    until(process, b"going")
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=LONG_S)
    assert not one.requeued
    assert "`restart: false`" in one.told()["why"]
    assert decisions(one.record()) == ["hold"]


def test_points_that_are_packed_run_at_once_and_go_on_together(site: Make) -> None:
    script = (
        "import os, sys, time\n"
        "n = int(os.environ['LAUNCHER_PARAM_N'])\n"
        "time.sleep(8)\nprint('point', n, flush=True)\nsys.exit(4 if n == 1 else 0)\n"
    )
    one = site(Wish(script=script, points=3, pack=3))
    done = one.task()
    assert (done.returncode, one.told()["decision"]) == (4, "failed"), done.stdout.decode()
    assert [one.record(point).state for point in range(3)] == ["succeeded", "failed", "succeeded"]
    starts = sorted(str(one.record(point).started) for point in range(3))
    ends = sorted(str(one.record(point).ended) for point in range(3))
    assert starts[-1] < ends[0]
    assert sorted(said_by(done)) == ["point 0", "point 1", "point 2"]
    assert not said_by(one.task())


def bucket(faulty: Faulty, folder: Path, through: str) -> Access:
    """Say how a node reaches a bucket: with credentials in a file that a submit has brought along."""
    secrets = folder / "store.json"
    secrets.touch(0o600)
    secrets.write_text(json.dumps({"access_key_id": faulty.key, "secret_access_key": faulty.secret}))
    return Access(faulty.url, {"endpoint": through, "region": REGION}, str(secrets))


def test_a_store_that_does_not_answer_is_waited_for(site: Make, faulty_s3: Faulty, tmp_path: Path) -> None:
    """Before the command it is gone, and again while the end is stored; the credentials come from the order's file."""
    through, near = (bucket(faulty_s3, tmp_path, at) for at in (faulty_s3.endpoint, faulty_s3.direct.endpoint))
    one = site(Wish(script="import time\nprint('going', flush=True)\ntime.sleep(2)\n"), where=through)
    faulty_s3.proxy.refuse()
    process = one.start()
    until(process, b"trying again")
    faulty_s3.proxy.listen()
    said = until(process, b"going")
    faulty_s3.proxy.refuse()
    time.sleep(6)
    faulty_s3.proxy.listen()
    rest, _ = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, (said + rest).decode()
    assert b"it works again" in said
    assert faulty_s3.secret.encode() not in said + rest
    record = records.load(stores.open(near), one.plan.runs[0])
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 1)


def said_by(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [line for line in done.stdout.decode().splitlines() if line.startswith("point ")]


def rank_of(rank: int) -> dict[str, Any]:
    """Return what Slurm says to a task's step on one of two nodes."""
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_ID": "0"}
    return {**step, "SLURM_NODEID": str(rank), "node": str(rank + 1)}


def test_nodes_of_a_task_run_one_attempt(site: Make) -> None:
    script = (
        "import os, pathlib\n"
        "rank = os.environ['NODE_RANK']\n"
        "names = ('MASTER_ADDR', 'MASTER_PORT', 'NNODES', 'PET_NNODES', 'PET_NODE_RANK')\n"
        "told = ' '.join(os.environ[name] for name in names)\n"
        "pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'], rank).write_text(told)\n"
        "print('rank', rank, flush=True)\nimport time; time.sleep(1.5)\n"
    )
    one = site(Wish(script=script, resources=Resources(nodes=2)))
    follower, leader = (one.start(**rank_of(rank)) for rank in (1, 0))
    said, _ = leader.communicate(timeout=LONG_S)
    assert leader.returncode == 0, said.decode()
    assert b"rank 1" in follower.communicate(timeout=LONG_S)[0]
    assert follower.returncode == 0
    record = one.record()
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 1)
    outputs = [one.store.get(keys.output(record.run, 1, rank)).decode() for rank in "01"]
    assert outputs == ["node1 12100 2 2 0", "node1 12100 2 2 1"]
    lines = sorted(line.data.strip() for line in logs.read(one.store, record.run))
    assert lines == [b"[node 1] rank 1", b"rank 0"], "what all nodes print is the run's log"


def test_a_node_whose_command_fails_ends_the_attempt(site: Make) -> None:
    script = (
        "import os, sys, time\ntime.sleep(1)\n"
        "if os.environ['NODE_RANK'] == '1': sys.stderr.write('this is why'); sys.exit(9)\n"
        "time.sleep(60)\n"
    )
    one = site(Wish(script=script, resources=Resources(nodes=2)))
    follower, leader = (one.start(**rank_of(rank)) for rank in (1, 0))
    said, _ = leader.communicate(timeout=LONG_S)
    follower.communicate(timeout=LONG_S)
    assert one.told()["decision"] == "failed", said.decode()
    assert "node2 (node 1) ended with code 9" in one.told()["why"]
    assert [line.data for line in logs.read(one.store, one.plan.runs[0])] == [b"[node 1] this is why"]


def test_a_node_that_can_not_serve_the_job_is_avoided_while_there_are_others(site: Make) -> None:
    wish = Wish(script="print('ran')\n", resources=Resources(gpus=Gpus(count=1)))
    one = site(wish, partitions=(Partition(name="main", nodes=4),))
    for node, had in (("7", ""), ("8", "node7"), ("9", "node7,node8")):
        one.exclude(had)
        done = one.task(0, SLURM_JOB_PARTITION="main", node=node)
        assert one.told()["kind"] == "refused" and b"ran" not in done.stdout, done.stdout.decode()
    words = [line.removeprefix("update JobId=99_0 ExcNodeList=") for line in one.said if line.startswith("update")]
    assert words == ["node7", "node7,node8"], "the last two stay, whatever they are like"
    assert len(one.requeued) == 3


def test_an_order_survives_its_trip(site: Make) -> None:
    one = site(Wish(script=""))
    assert orders.read(one.file).to_json() == one.order.to_json()


def test_a_bug_is_told_as_one_and_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the batch script would find no last word, and take the host side for one that was killed."""

    def point(*_: object) -> Any:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr("launcher.node.point.Point", point)
    plan: Any = SimpleNamespace(runs=["r0", "r1"])
    nothing: Any = None
    told = main.alone(nothing, plan, 1, nothing, nothing)
    assert (told.decision, told.kind, told.run, told.code) == ("hold", "bug", "r1", main.UNREADY)
    assert "nobody thought of it" in told.why
