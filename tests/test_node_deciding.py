"""What follows when an attempt has ended, and the small things around it: pure values, no process."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import AccessError, IntegrityError, TargetError, UnreachableError
from launcher.gpu.model import Device, Node
from launcher.node import deciding, gpus, images, memory, packing, patience, staging, task, told
from launcher.node.deciding import Seen, decide
from launcher.node.patience import Patience
from launcher.node.point import in_short
from launcher.node.stopping import Stopped, Stopping
from launcher.node.task import Task
from launcher.node.told import Outcome
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.records import Attempt, Record
from launcher.spec.model import Gpus, Resources
from launcher.target import accounts
from tests.rootfs import tiny_image
from tests.sites import Wish, deliver

ENDED = {"started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:01Z"}


def run(*attempts: dict[str, object], checkpoints: tuple[int, ...] = ()) -> Record:
    """Make a record of attempts; `cause` is what was told when an earlier one had ended."""
    made = []
    for number, told_of in enumerate(attempts, 1):
        values = {"state": "killed", **ENDED, **told_of}
        cause = values.pop("cause", None)
        parted = {"decision": "requeue", "cause": cause} if cause else None
        made.append(Attempt(attempt=number, parted=parted, scheduler={"token": "t"}, **values))  # type: ignore[arg-type]
    state = made[-1].state
    return Record(run="r", state=state, attempts=tuple(made), checkpoints=tuple({"attempt": n} for n in checkpoints))


LIMIT = {"cause": "time limit", "asked_to_stop": "SIGTERM", "code": 143}
LOST: dict[str, object] = {"code": None}


@pytest.mark.parametrize(
    ("record", "seen", "decision", "kind"),
    [
        (run({"state": "succeeded", "code": 0}), Seen(), "done", None),
        (run({"state": "succeeded", "code": 0}), Seen(asked="time limit"), "done", None),
        (run({"state": "failed", "code": 3}), Seen(), "failed", "command"),
        (run({"state": "failed", "code": 3}), Seen(asked="time limit"), "failed", "command"),
        (run({"state": "killed", "code": 139, "signal": "SIGSEGV"}), Seen(memory=0), "failed", "command"),
        (run(LIMIT), Seen(asked="time limit"), "requeue", "time limit"),
        (run({**LIMIT, "code": 0}), Seen(asked="preempted"), "requeue", "preempted"),
        (run(LIMIT), Seen(asked="SIGTERM"), "hold", "asked"),
        (run(LIMIT, LIMIT, LIMIT), Seen(asked="time limit"), "failed", "stuck"),
        (run(LIMIT, LIMIT, LIMIT, checkpoints=(2,)), Seen(asked="time limit"), "requeue", "time limit"),
        (run(LIMIT, {**LIMIT, "cause": "preempted"}, LIMIT), Seen(asked="time limit"), "requeue", "time limit"),
        (run(LOST), Seen(memory=0), "again", "lost"),
        (run(LOST), Seen(memory=0, tries=2), "requeue", "lost"),
        (run(*[LOST] * 5), Seen(memory=0, tries=2), "hold", "stuck"),
        (run(LOST), Seen(memory=1), "failed", "memory"),
        (run({"state": "failed", "code": 137}), Seen(memory=2), "failed", "memory"),
        (run({"code": 137, "signal": "SIGKILL"}), Seen(memory=0, tries=2), "requeue", "lost"),
        (run({"code": 137, "signal": "SIGKILL"}), Seen(memory=None), "failed", "command"),
        (run({"state": "refused", "code": 78}), Seen(), "requeue", "refused"),
        (
            run({"state": "failed", "code": 1, "asked_to_stop": "SIGTERM"}),
            Seen(fallen="node2 fell"),
            "failed",
            "command",
        ),
        (run({"superseded": {"by": 2}}), Seen(), "hold", "superseded"),
    ],
)
def test_what_follows(record: Record, seen: Seen, decision: str, kind: str | None) -> None:
    found = decide(record, seen, token="t")
    assert (found.decision, found.kind) == (decision, kind), found
    assert (found.code == 0) == (decision == "done")


def test_nothing_is_decided_for_somebody_elses_attempt() -> None:
    """A node that was cut off comes back when the next attempt runs elsewhere."""
    found = deciding.taken(run(LOST, LOST), 1)
    assert found is not None
    assert (found.decision, found.kind, found.attempt) == ("hold", "superseded", 1)
    assert deciding.taken(run(LOST), 1) is None


def test_retries_count_for_one_submission() -> None:
    failed = {"state": "failed", "code": 3, "cause": "command"}
    assert decide(run(failed), Seen(), token="t", retries=1).decision == "again"
    assert decide(run(failed, failed), Seen(), token="t", retries=1).decision == "failed"
    assert decide(run(failed, failed), Seen(), token="other", retries=1).decision == "again"
    assert decide(run(LOST, LOST, failed), Seen(), token="t", retries=1).decision == "again", "losses are no failures"
    assert decide(run({**failed, "code": 137}), Seen(memory=1), token="t", retries=9).decision == "failed"


def test_the_last_word_of_a_submission_stays() -> None:
    last = Attempt(attempt=1, state="failed", code=3, scheduler={"token": "t"}, parted={"decision": "failed"})
    record = Record(run="r", state="failed", attempts=(last,))
    standing = deciding.standing(record, "t", 0)
    assert standing is not None
    assert (standing.decision, standing.code) == ("failed", 3)
    assert deciding.standing(record, "other", 0) is None
    assert deciding.standing(run(LIMIT), "t", 0) is None


def test_a_task_goes_on_as_long_as_one_of_its_points_does() -> None:
    done, bad = Outcome(decision="done"), Outcome(decision="failed", why="no", code=3)
    assert told.together([done, done]) == done
    assert told.together([done, bad]).code == 3
    assert told.together([bad, Outcome(decision="requeue", code=75), done]).decision == "requeue"


def test_slurms_words_for_a_task() -> None:
    env = {"SLURM_JOB_ID": "40", "SLURM_ARRAY_JOB_ID": "38", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "1"}
    found = task.here(env)
    assert (found.name, found.index, found.restart, found.port) == ("38_2", 2, 1, 12040)
    assert task.here({"SLURM_JOB_ID": "7"}).name == "7"
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "2"}
    assert (task.here(step).rank, task.here(step).nodes) == (1, 2)


class Fake:
    """A process that notes its signals."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def signal(self, number: int) -> None:
        self.got.append(number)


def test_signals_of_slurm() -> None:
    now = 1000.0
    limit, early = Task(job="1", ends=now + 60), Task(job="1", ends=now + 3600)
    for one, asked in ((limit, "time limit"), (early, "preempted")):
        stopping, process = Stopping(one, 120, lambda: now), Fake()
        stopping.follow(process)  # type: ignore[arg-type]
        stopping.take(signal.SIGUSR2, None)
        stopping.take(signal.SIGCONT, None)
        stopping.take(signal.SIGTERM, None)
        assert (stopping.asked, process.got) == (asked, [signal.SIGTERM]), "the second one would end the storing"
        stopping.take(signal.SIGTERM, None)
        assert process.got == [signal.SIGTERM] * 2
    stopping, process = Stopping(limit, 120), Fake()
    stopping.take(signal.SIGTERM, None)
    with pytest.raises(Stopped):
        stopping.check()
    stopping.follow(process)  # type: ignore[arg-type]
    assert (stopping.asked, process.got) == ("SIGTERM", [signal.SIGTERM]), "asked before it began"


def test_patience_with_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.01)
    left = [UnreachableError("gone"), UnreachableError("gone")]

    def action() -> str:
        if left:
            raise left.pop()
        return "there"

    assert Patience(None).until(action) == "there"
    with pytest.raises(AccessError):
        Patience(None).until(lambda: (_ for _ in ()).throw(AccessError("no")))
    left.append(UnreachableError("gone"))
    with pytest.raises(UnreachableError):
        Patience(None, limit_s=-1).until(action)


def test_kills_for_want_of_memory(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/slurm/job_1/step_0\n9:memory:/slurm/job_1/step_0/task_0\n")
    top = tmp_path / "fs"
    assert memory.kills(str(groups), top) is None
    step = top / "memory/slurm/job_1/step_0"
    (step / "task_0").mkdir(parents=True)
    (step / "task_0/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert memory.kills(str(groups), top) == 0
    (step / "memory.oom_control").write_text("oom_kill 2\n")
    assert memory.kills(str(groups), top) == 2
    assert memory.since(None) is None


def test_the_gpus_that_slurm_gave(tmp_path: Path) -> None:
    both = Node(driver="550", devices=(Device(index=0, uuid="GPU-a0"), Device(index=1, uuid="GPU-b1")), source="nvml")
    assert gpus.given(0, {}, both) == gpus.Given()
    assert [one.uuid for one in gpus.given(1, {"CUDA_VISIBLE_DEVICES": "1"}, both).devices] == ["GPU-b1"]
    (tmp_path / "nvidia1").touch()
    env = {"CUDA_VISIBLE_DEVICES": "0", "SLURM_STEP_GPUS": "1", "OTHER": "x"}
    found = gpus.given(1, env, Node(source="proc"), tmp_path)
    assert [(mount.target, mount.writable) for mount in found.mounts] == [("/dev/nvidia1", True)]
    assert found.env == {"CUDA_VISIBLE_DEVICES": "0"}


def test_steps_share_what_a_task_has(tmp_path: Path, cache: Cache) -> None:
    site = deliver(tmp_path / "shared", cache, tiny_image(cache), Wish(script=""))
    job = site.plan.job(0)
    assert packing.words(job, 2, {"SLURM_MEM_PER_NODE": "4096"})[-2:] == ["--mem=2048M", "--gres=none"]
    wide = replace(job, resources=Resources(cpus=3, gpus=Gpus(count=1)))
    assert {"--cpus-per-task=3", "--gpus-per-task=1"} <= set(packing.words(wide, 2, {}))


def test_the_last_word_has_its_room(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "0.state.json"
    told.reserve(place)
    assert not place.exists()
    assert told.reserved(place).stat().st_size == told.BYTES
    told.tell(place, Outcome(decision="hold", why="é" * 9000, code=75), Task(job="7", node="n1"))
    assert place.stat().st_size == told.BYTES
    assert json.loads(place.read_bytes())["restart"] == 0
    found = told.read(place)
    assert found is not None
    assert (found.decision, found.code) == ("hold", 75)
    assert told.read(tmp_path / "none") is None


def test_an_image_without_its_layers(tmp_path: Path, cache: Cache) -> None:
    image = tiny_image(cache)
    for name, content in images.files(image, cache, "apptainer"):
        place = tmp_path / "shared" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    found = images.read(str(tmp_path / "shared"), image.id)
    assert (found.image.id, found.image.config, found.image.diff_ids) == (image.id, image.config, image.diff_ids)
    assert found.accounts == accounts.of_image(image, cache)
    assert found.sif is not None

    node, profile = Cache(tmp_path / "scratch"), Profile(name="t", shared=str(tmp_path / "shared"), scratch="/s")
    order = type("Order", (), {"profile": profile})
    copy = staging.sif_of(found, node, order)  # type: ignore[arg-type]
    assert copy is not None
    assert copy.is_relative_to(node.root)
    assert staging.sif_of(found, node, order) == copy  # type: ignore[arg-type]

    (found.folder / "image.sif").write_bytes(b"x" * found.sif.size)
    with pytest.raises(IntegrityError):
        staging.copied(found.folder / "image.sif", tmp_path / "out", found.sif)
    (found.folder / "image.sif").write_bytes(b"x")
    with pytest.raises(IntegrityError):
        staging.sif_of(found, node, order)  # type: ignore[arg-type]
    Path(Places(str(tmp_path / "shared")).image(image.id, "image.json")).write_text("{}")
    with pytest.raises(TargetError):
        images.read(str(tmp_path / "shared"), image.id)


def test_images_make_way_for_others(cache: Cache) -> None:
    def image(name: str, used: float) -> Path:
        lock = cache.root / "use" / f"{name}.lock"
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
        os.utime(lock, (used, used))
        path = cache.path("blobs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
        return path

    now = time.time()
    old, held, new = image("a" * 64, now - 30), image("b" * 64, now - 20), image("c" * 64, now)
    with (cache.root / "use" / f"{'b' * 64}.lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        staging.make_room(cache, 1 << 60)
        assert (old.exists(), held.exists(), new.exists()) == (False, True, False)
    staging.make_room(cache, 10)
    assert held.exists()


def test_runs_that_went_on_elsewhere_are_forgotten(cache: Cache) -> None:
    folder = cache.root / "runs" / "r"
    (folder / "inside").mkdir(parents=True)
    staging.forget_old_runs(cache, time.time())
    assert folder.exists()
    staging.forget_old_runs(cache, time.time() + staging.OLD_S + 1)
    assert not folder.exists()


def test_why_a_container_does_not_start_is_said_in_one_line() -> None:
    said = TargetError("Podman refused:\n  time=... level=error\n  Error: no subuid ranges", hint="ask for one")
    assert in_short(said) == "Podman refused: Error: no subuid ranges"
    assert [in_short(one) for one in (TargetError("once"), ValueError())] == ["once", "ValueError"]
