"""The verbs of sweeps, with a Slurm that is a few lines of shell: submit, status, table, retry, cancel, wait, logs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher import store as stores
from launcher.access import of
from launcher.cache import Cache
from launcher.cli import invoke
from launcher.cli.errand import Done, Errand
from launcher.cli.preparing import refuse_unreachable_store
from launcher.cli.sending import Sent, at
from launcher.cli.submit import code, lines
from launcher.errors import TargetError, UsageError
from launcher.job import to_json as job_json
from launcher.job.sweeps import Plan
from launcher.lock import loads as read_lock
from launcher.profiles import load
from launcher.profiles.files import save_found
from launcher.profiles.model import Warned
from launcher.profiles.places import Places
from launcher.records import sweeps
from launcher.records.standing import to_do
from launcher.runner.clock import stamp
from launcher.slurm.model import Report
from launcher.slurm.options import Asked
from launcher.spec import load as load_spec
from launcher.store import keys
from launcher.store.objects import Store
from tests.test_profiles_fit import CUDA
from tests.test_standing import made

GOLDEN = Path(__file__).parent / "golden" / "lock"

# The queue is a file: id|index|name|state|node|reason in each line, as squeue is asked for it.
SBATCH = """#!/bin/sh
for script; do :; done
[ ! -e "{queue}.away" ] || {{ echo "Batch job submission failed: Unable to contact slurm controller" >&2; exit 1; }}
[ ! -e "{queue}.full" ] || {{ echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }}
[ ! -e "{queue}.refuses" ] || {{ echo "sbatch: error: Batch job submission failed: {refusal}" >&2; exit 1; }}
id=$(($(cat "{queue}.last" 2>/dev/null || echo 100) + 1)); echo $id >"{queue}.last"
name=$(sed -n 's/^#SBATCH --job-name=//p' "$script" | tr -d "'\\"")
array=$(sed -n 's/^#SBATCH --array=\\([0-9-]*\\).*/\\1/p' "$script")
echo "$id|${{array:-N/A}}|$name|PENDING||Priority" >>"{queue}"
echo $id
"""
SQUEUE = """#!/bin/sh
[ ! -e "{queue}.silent" ] || {{ echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }}
case "$*" in *"%A|%j"*) cut -d"|" -f1,3 "{queue}" ;; *) cat "{queue}" ;; esac
"""
SCANCEL = """#!/bin/sh
echo "$@" >>"{queue}.cancelled"
"""
REFUSAL = "Requested node configuration is not available"
TARGET = '[target]\nshared = "{shared}"\npartition = "main"\n'


class Slurm:
    """A queue that does what tests say."""

    def __init__(self, folder: Path) -> None:
        self.queue = folder / "queue"
        self.queue.touch()
        (folder / "bin").mkdir()
        for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}.items():
            program = folder / "bin" / name
            program.write_text(text.format(queue=self.queue, refusal=REFUSAL))
            program.chmod(0o755)

    @property
    def jobs(self) -> list[str]:
        return self.queue.read_text().splitlines()

    def is_empty(self) -> None:
        self.queue.write_text("")

    def runs(self) -> None:
        self.queue.write_text(
            "".join(line.replace("PENDING||Priority", "RUNNING|n1|None") + "\n" for line in self.jobs)
        )

    def mark(self, word: str, on: bool = True) -> None:
        mark = self.queue.with_name(f"queue.{word}")
        mark.touch() if on else mark.unlink()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "shared" / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    targets = tmp_path / "config" / "launcher" / "targets"
    targets.mkdir(parents=True)
    (targets / "lab.toml").write_text(TARGET.format(shared=tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Errand, "send", sent_before)
    return found


def sent_before(self: Errand, plan: Plan, shell: object) -> Sent:
    """Take for sent what `launcher.remote` has its own tests for."""
    return at(Places(self.profile.shared), f"{self.profile.shared}/tools/t", plan, self.access, "amd64")


@pytest.fixture
def store(slurm: Slurm, tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "shared" / "store"))


def submit(store: Store, plan: Plan, **profile: Any) -> Done:
    errand = Errand(
        profile=replace(load("lab"), **profile),
        opened=store,
        access=of(store.url),
        place=store.url,
        cache=Cache(),
        freight=lambda: pytest.fail("nothing was to be sent"),
        asked=Asked(),
        choose=to_do,
    )
    return errand.run(sweeps.settle(store, plan))


def placed(done: Done) -> int:
    return done.report.points(done.report.placed) if done.report else 0


def event(store: Store, run: str, attempt: int, seq: int, kind: str, **facts: Any) -> None:
    told = {"kind": kind, "time": stamp(), "attempt": attempt, "seq": seq, **facts}
    store.create(keys.event(run, attempt, seq), json.dumps(told).encode())


def run(store: Store, plan: Plan, points: Iterable[int], code: int | None = 0, attempt: int = 1) -> None:
    """Let points run: `code` is how they end, None for those that go on."""
    for index in points:
        name = plan.runs[index]
        records.submit(store, json.loads(job_json(plan.job(index))), attempt=attempt)
        event(store, name, attempt, 1, "started", runner="0.1.0", heartbeat_s=20)
        store.create(keys.log(name, attempt, 0), f"{stamp()} stdout F point {index}\n".encode())
        if code is not None:
            event(store, name, attempt, 2, "ended", code=code, signal=None, reason=None)
            event(store, name, attempt, 3, "closed", missing=[], log_bytes_lost=0)


def told(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    capsys.readouterr()
    assert invoke(list(args)) == code, capsys.readouterr().err
    return capsys.readouterr().out


def counts(capsys: pytest.CaptureFixture[str], plan: Plan, code: int) -> dict[str, int]:
    found: dict[str, int] = json.loads(told(capsys, "status", plan.sweep, "--json", code=code))[0]["counts"]
    return found


def test_a_sweep_from_submit_to_its_end(store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    plan = made(6)
    assert placed(submit(store, plan)) == 6 and len(slurm.jobs) == 1
    assert counts(capsys, plan, 3) == {"queued": 6}
    assert "6 x " in told(capsys, "status", plan.sweep, code=3), "the reason in plain words, once"
    assert placed(submit(store, plan)) == 0 and len(slurm.jobs) == 1, "the same again submits nothing"

    slurm.runs()
    run(store, plan, [0, 1], 0)
    run(store, plan, [2], 3)
    run(store, plan, [3], None)
    assert counts(capsys, plan, 1) == {"succeeded": 2, "running": 3, "failed": 1}
    assert placed(submit(store, plan)) == 0, "its task is not over, so it may be about to be requeued"
    assert invoke(["wait", plan.sweep, "--timeout", "0s"]) in (2, 3)

    event(store, plan.runs[3], 1, 2, "ended", code=0, signal=None, reason=None)
    event(store, plan.runs[3], 1, 3, "closed", missing=[], log_bytes_lost=0)
    run(store, plan, [4], 0)
    slurm.is_empty()
    assert counts(capsys, plan, 1) == {"succeeded": 4, "failed": 1, "lost": 1}
    told(capsys, "wait", plan.sweep, code=1)
    again = submit(store, plan)
    assert again.sent == (2, 5) and placed(again) == 2 and len(slurm.jobs) == 1


def test_retry_runs_what_failed_and_nothing_else(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(4)
    submit(store, plan)
    run(store, plan, [0, 1], 0)
    run(store, plan, [2, 3], 1)
    slurm.is_empty()
    done = json.loads(told(capsys, "retry", "--failed", plan.sweep, "--json"))[0]
    assert (done["sent"], done["submitted"], done["target"]) == ([2, 3], 2, "lab")
    assert counts(capsys, plan, 3) == {"succeeded": 2, "queued": 2}
    assert json.loads(told(capsys, "retry", plan.sweep, "--json"))[0]["sent"] == []
    slurm.is_empty()
    run(store, plan, [2, 3], 0, attempt=2)
    told(capsys, "wait", plan.sweep)
    points = json.loads(told(capsys, "status", plan.sweep, "--json"))[0]["points"]
    assert [point["attempts"] for point in points] == [1, 1, 2, 2]
    assert invoke(["retry", plan.runs[0]]) == 2 and "has succeeded" in capsys.readouterr().err


def test_what_was_cancelled_stays_so_until_it_is_retried(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(3)
    submit(store, plan)
    run(store, plan, [0], 0)
    assert "1 point is not wanted" in told(capsys, "cancel", plan.runs[1])
    told(capsys, "cancel", plan.sweep)
    assert slurm.queue.with_name("queue.cancelled").read_text().splitlines() == ["101_[1]", "101"]
    slurm.is_empty()
    assert counts(capsys, plan, 1) == {"succeeded": 1, "cancelled": 2}
    assert placed(submit(store, plan)) == 0
    assert json.loads(told(capsys, "retry", plan.runs[2], "--json"))[0]["sent"] == [2]
    assert counts(capsys, plan, 3) == {"succeeded": 1, "queued": 1, "cancelled": 1}


def test_a_submit_says_that_what_failed_is_not_wanted_any_more(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(3)
    submit(store, plan)
    run(store, plan, [0], 0)
    run(store, plan, [1, 2], 3)
    slurm.is_empty()
    told(capsys, "cancel", plan.sweep)
    assert lines(submit(store, plan))[1:] == [
        "  before: 1 succeeded, 2 failed",
        "  nothing to submit: 2 that came to a bad end are cancelled",
        f"next: launcher retry {plan.sweep} takes up what was cancelled",
    ]


def test_what_was_cancelled_before_it_came_to_slurm_is_told_as_such(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(2)
    for mark in ("away", "silent"):
        slurm.mark(mark)
    assert lines(submit(store, plan))[1] == "  submitted: 0"
    assert invoke(["cancel", plan.sweep]) == 69
    for mark in ("away", "silent"):
        slurm.mark(mark, on=False)
    capsys.readouterr()
    assert lines(submit(store, plan))[2:] == [
        "  submitted: 0",
        "  never came to Slurm, and cancelled meanwhile: 2",
        f"next: launcher retry {plan.sweep} takes up what was cancelled",
    ]
    assert counts(capsys, plan, 1) == {"cancelled": 2}
    assert json.loads(told(capsys, "retry", plan.sweep, "--json"))[0]["sent"] == [0, 1]


def test_no_answer_means_unknown_and_nothing_is_done(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(3)
    submit(store, plan)
    run(store, plan, [0], 1)
    slurm.is_empty()
    slurm.mark("silent")
    assert counts(capsys, plan, 1) == {"failed": 1, "unknown": 2}
    assert "does not answer" in capsys.readouterr().err or placed(submit(store, plan)) == 0
    assert placed(submit(store, plan)) == 0 and not slurm.jobs
    slurm.mark("silent", on=False)
    assert submit(store, plan).sent == (0, 1, 2)


def test_what_does_not_fit_waits_and_is_gone_on_with(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(4)
    submit(store, plan, max_array=3)
    assert len(slurm.jobs) == 2
    slurm.is_empty()
    run(store, plan, range(4), 1)
    slurm.mark("full")
    slurm.queue.write_text("7|N/A|launcher-of-others|PENDING||Priority\n")
    done = submit(store, plan)
    assert done.report and done.report.points(done.report.waiting) == 4
    slurm.mark("full", on=False)
    assert "QOSMaxSubmitJobPerUserLimit" in str(done.report.limit)
    assert invoke(["wait", plan.sweep, "--timeout", "1s"]) == 3
    assert len(slurm.jobs) == 2, "waiting has submitted it"


def test_what_slurm_refuses_is_told_and_waited_for_by_nobody(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(3)
    slurm.mark("refuses")
    done = submit(store, plan)
    assert placed(done) == 0 and code(done) == TargetError.exit_code
    assert counts(capsys, plan, 1) == {"refused": 3}
    assert REFUSAL in told(capsys, "status", plan.sweep, code=1)
    told(capsys, "wait", plan.sweep, code=1)
    told(capsys, "retry", plan.sweep, code=69)

    slurm.mark("refuses", on=False)
    told(capsys, "retry", "--failed", plan.sweep)
    assert counts(capsys, plan, 3) == {"queued": 3}
    slurm.is_empty()
    slurm.mark("refuses")
    run(store, plan, range(3), 1)
    told(capsys, "retry", plan.sweep, code=69)
    assert counts(capsys, plan, 1) == {"failed": 3}, "what they came to before"


def test_points_that_nobody_has_submitted_are_told_while_they_are_waited_for(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = sweeps.settle(store, made(2))
    assert invoke(["wait", plan.sweep, "--timeout", "1s"]) == 3
    assert "`launcher submit` sends it" in capsys.readouterr().err
    assert "2 x not submitted: a submit has not come so far" in told(capsys, "status", plan.sweep, code=3)


def test_a_table_has_a_row_for_every_point(store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    plan = made(5)
    submit(store, plan)
    run(store, plan, [1], 0)
    rows = json.loads(told(capsys, "table", plan.sweep, "--json"))
    assert [row["run"] for row in rows] == list(plan.runs)
    assert [row["state"] for row in rows] == ["queued", "succeeded", "queued", "queued", "queued"]
    assert [row["params"]["lr"] for row in rows] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(told(capsys, "table", plan.sweep, "--state", "queued").splitlines()) == 5
    assert told(capsys, "ls", "--sweep", plan.sweep).splitlines()[1].startswith(plan.runs[1])


def test_points_that_differ_in_their_seed_alone_are_told_apart(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = sweeps.settle(store, made(2, seeds=True))
    run(store, plan, [1], 0)
    for line, seed in zip(told(capsys, "table", plan.sweep).splitlines(), ("SEED", "0", "1"), strict=True):
        assert line.split()[3] == seed
    assert [row["seed"] for row in json.loads(told(capsys, "table", plan.sweep, "--json"))] == [0, 1]
    assert "differ in  lr, seed" in told(capsys, "show", plan.sweep)


def test_who_loses_a_race_of_submits_is_told_so(store: Store, slurm: Slurm) -> None:
    plan = made(2)
    report = replace(submit(store, plan), report=Report())
    assert lines(report)[-2] == "  nothing to submit: another submit was there first, at this moment"


def test_this_machine_is_no_cluster(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["submit", "x.yaml", "--on", "local"]) == 2
    assert "`local` is this machine" in capsys.readouterr().err
    assert invoke(["submit", "x.yaml", "--on", "nowhere"]) == 2
    assert "besides local there are lab; `launcher target add nowhere" in capsys.readouterr().err


def test_a_lock_that_needs_a_newer_driver_is_refused_before_sbatch(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "config" / "launcher" / "targets" / "lab.toml"
    target.write_text(target.read_text() + '[partition.main]\nnodes = 2\ndriver = "450.80.02"\n')
    seen = '[[found.partition]]\nname = "main"\ngres = ["gpu:2"]\n'
    target.with_name("lab.found.toml").write_text(seen)
    spec = tmp_path / "s.yaml"
    spec.write_text("name: s\nimage: {base: debian:bookworm, python: '3.11'}\nrun: 'true'\nresources: {gpus: 1}\n")
    lock = replace(read_lock((GOLDEN / "good.lock").read_text(), "good.lock"), gpu=CUDA)
    monkeypatch.setattr("launcher.cli.pipeline.locked", lambda *_, **__: (load_spec(spec), lock))
    assert invoke(["submit", str(spec), "--on", "lab"]) == 69
    assert "driver 450.80.02 is too old: CUDA 12.6 needs 525.60.13" in capsys.readouterr().err
    assert not slurm.jobs


def test_what_doctor_found_wrong_is_said_before_anything_is_built(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = replace(load("lab"), seen="2026-01-31T12:00:00Z")
    wrong = Warned(says="runtime: node1: there is no apptainer", hint="name another", refused=True)
    save_found(replace(found, warnings=(wrong, Warned(says="clock: it is late", hint="set it"))))
    spec = tmp_path / "s.yaml"
    spec.write_text("name: s\nimage: {base: debian:bookworm, python: '3.11'}\nrun: 'true'\n")
    lock = read_lock((GOLDEN / "good.lock").read_text(), "good.lock")
    monkeypatch.setattr("launcher.cli.pipeline.locked", lambda *_, **__: (load_spec(spec), lock))

    def gathered(*_: object) -> None:
        raise UsageError("now it is built")

    monkeypatch.setattr("launcher.cli.preparing.gathered", gathered)
    assert invoke(["submit", str(spec), "--on", "lab"]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == (
        "note: `launcher doctor lab` found at 2026-01-31T12:00:00Z what runs may fail for: "
        "runtime: node1: there is no apptainer; name another"
    )
    assert rest == ["error: now it is built"]


def test_logs_of_a_sweep_say_which_point(store: Store, slurm: Slurm, capsysbinary: Any) -> None:
    plan = made(3)
    submit(store, plan)
    run(store, plan, [0, 2], 0)
    assert invoke(["logs", plan.sweep]) == 0
    assert capsysbinary.readouterr().out == b"00000 | point 0\n00002 | point 2\n"
    assert invoke(["logs", plan.sweep, "--point", "2"]) == 0
    assert capsysbinary.readouterr().out == b"point 2\n"
    assert invoke(["logs", plan.sweep, "--point", "3"]) == 2


def test_a_word_names_a_sweep_or_a_run_or_is_told(
    store: Store, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(2)
    submit(store, plan)
    run(store, plan, [0], 0)
    assert json.loads(told(capsys, "show", "tri", "--json"))["sweep"] == plan.sweep
    assert json.loads(told(capsys, "show", plan.runs[0], "--json"))["state"] == "succeeded"
    waiting = json.loads(told(capsys, "show", plan.runs[1], "--json"))
    assert (waiting["state"], waiting["point"], waiting["params"]["lr"]) == ("queued", 1, 1.0)
    assert plan.runs[1] in told(capsys, "show", plan.runs[1])
    assert invoke(["status", "nobody"]) == 2 and "no run or sweep" in capsys.readouterr().err
    assert plan.sweep in told(capsys, "status")


def test_a_target_that_this_machine_does_not_know_is_unknown(
    store: Store, slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made(2)
    submit(store, plan)
    shutil.rmtree(tmp_path / "config")
    assert counts(capsys, plan, 3) == {"unknown": 2}
    assert json.loads(told(capsys, "table", plan.sweep, "--json"))[0]["state"] == "unknown"


def test_setup_comes_before_every_question_on_the_login_node_itself(
    store: Store,
    slurm: Slurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = made(2)
    submit(store, plan)
    module = f'setup = ["export PATH={tmp_path}/bin:$PATH"]\npython = "{sys.executable}"\n'
    (tmp_path / "config" / "launcher" / "targets" / "lab.toml").write_text(
        TARGET.format(shared=tmp_path / "shared") + module
    )
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(":")[2])
    assert counts(capsys, plan, 3) == {"queued": 2}
    told(capsys, "cancel", plan.sweep)
    assert slurm.queue.with_name("queue.cancelled").read_text() == "101\n"


def test_a_folder_is_no_store_for_a_cluster_that_is_elsewhere(slurm: Slurm, tmp_path: Path) -> None:
    """And no folder is offered instead: of that machine's none can be named from here."""
    access = of(f"file://{tmp_path}/shared/store")
    refuse_unreachable_store(load("lab"), access)
    with pytest.raises(TargetError, match="is a folder of this machine") as found:
        refuse_unreachable_store(replace(load("lab"), host="login.example.org"), access)
    assert "below" not in str(found.value)


def test_an_old_point_with_the_same_digest_is_not_run_again(store: Store, slurm: Slurm) -> None:
    old, new = made(2), made(3)
    submit(store, old)
    run(store, old, [0], 0)
    store.create(keys.point(old.group, old.digests[0]), old.runs[0].encode())
    assert submit(store, new).sent == (1, 2)
    assert submit(store, made(3, entropy=b"late").numbered(2)).sent == (0, 1, 2), "again means again"


def test_ten_thousand_points_are_no_pause(store: Store, slurm: Slurm) -> None:
    plan = made(10_000)
    begun = time.process_time()
    assert placed(submit(store, plan, max_array=10_001)) == 10_000
    found = submit(store, plan)
    assert found.sent == () and found.before.counts == {"queued": 10_000}
    assert time.process_time() - begun < 8, "what grows with the square of the points takes a minute"
