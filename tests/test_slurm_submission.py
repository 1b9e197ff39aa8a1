"""Submitting sweeps: each point once, whatever is killed, whoever else submits, and whatever Slurm says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from launcher.errors import TargetError
from launcher.slurm import continuing, queue
from launcher.slurm.agent import main
from launcher.slurm.placing import Facts, after_asking, step
from launcher.slurm.queue import Answer, Row, Silence
from launcher.store import keys
from tests.fake_slurm import FakeSlurm, install
from tests.submissions import MOMENTS, SWEEP, Errand, errand

ROOT = Path(__file__).parents[1]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    found = install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{found.programs}:/usr/bin:/bin")
    return found


def once_each(asked: Errand, fake: FakeSlurm) -> None:
    """Hold that Slurm has each point in exactly one task of one job, and that the ledger knows which."""
    ledger = asked.ledger
    names = {name: (job, tasks) for job, name, tasks in fake.jobs}
    assert len(names) == len(fake.jobs), "a submission is in Slurm twice"
    assert not ledger.open and not ledger.unborn
    points = Counter(point for one, _ in ledger.taken for point in one.points)
    assert points == Counter(range(len(asked.plan)))
    assert {one.job_name: (job, len(one.groups)) for one, job in ledger.taken} == names


# What is decided, as tables.


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(), "submit"),  # a crash before sbatch was about to be called
        (Facts(began=True), "ask"),  # a crash around sbatch
        (Facts(began=True, told=True), "tell"),  # a crash before the answer reached the store
        (Facts(traces=True), "ask"),
        (Facts(told=True, traces=True), "tell"),
        (Facts(began=True, locked=False, age_s=3), "wait"),  # without locks its sbatch may live
        (Facts(began=True, locked=False, age_s=300), "ask"),
        (Facts(locked=False), "submit"),
    ],
)
def test_what_is_done_with_a_submission(facts: Facts, expected: str) -> None:
    assert step(facts) == expected


ROW = Row(job="77", indices=(0,), array=False, name="launcher-aa", state="PENDING")


@pytest.mark.parametrize(
    ("found", "traces", "expected"),
    [
        (Answer(rows=(ROW,)), [], ("tell", "77")),
        (Answer(), [], ("submit", None)),
        (Answer(), ["78"], ("tell", "78")),  # it is over and forgotten, but it did run
        (Silence(why="x"), ["78"], ("tell", "78")),
        (Silence(why="no answer"), [], ("wait", "no answer")),
        (Answer(by="sacct", surely=False), [], ("wait", "accounting alone can't tell that it was never submitted")),
        (Answer(rows=(ROW,), by="sacct", surely=False), [], ("tell", "77")),
    ],
)
def test_what_follows_from_slurms_answer(
    found: queue.Answer | queue.Silence, traces: list[str], expected: tuple[str, str | None]
) -> None:
    assert after_asking(found, "aa", traces) == expected


# One submit.


def test_a_sweep_is_one_array_and_the_store_knows_it_before_and_after(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 5)
    report = asked.submit(who="ada")
    once_each(asked, fake)
    [(job, name, tasks)] = fake.jobs
    [one] = report.placed
    assert (report.jobs, tasks, one.who, one.groups[4]) == ({one.token: job}, 5, "ada", (4,))
    order = json.loads((Path(asked.profile.shared) / "sweeps" / SWEEP / f"{one.token}.json").read_bytes())
    assert (order["token"], order["number"], order["groups"]) == (one.token, 1, [[0], [1], [2], [3], [4]])
    assert name == f"launcher-{one.token}"


def test_one_point_is_no_array(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 1)
    asked.submit()
    assert fake.text("queue").endswith("|one\n")


def test_points_that_are_meant_to_be_submitted_are_not_meant_twice(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 4)
    before = asked.ledger
    asked.submit([0, 1])
    report = asked.submit(range(4), known=before)  # chosen before the first submit was there
    assert [one.points for one in report.placed] == [(2, 3)]
    once_each(asked, fake)


def test_a_point_that_is_over_is_submitted_again_when_it_is_asked_for(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 3)
    asked.submit()
    report = asked.submit([1])
    assert [one.points for one in report.placed] == [(1,)]
    one, task = asked.ledger.tasks[1]
    assert (one.number, task) == (2, 0)
    assert asked.ledger.tasks[2][0].number == 1


def test_many_who_submit_at_once_submit_once(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 40, profile={"max_array": 7})
    known = asked.ledger
    fake.say("sbatch-slow", "0.01")
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            asked.submit(known=known)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    asked.repair()
    once_each(asked, fake)


# Crashes.


def missing(asked: Errand) -> list[int]:
    """Return the points that nobody ever meant to submit: what a submit is asked for after a crash."""
    return [point for point in range(len(asked.plan)) if point not in asked.ledger.tasks]


def die(folder: Path, points: int, moment: str) -> int:
    argv = [sys.executable, "-m", "tests.submissions", str(folder), str(points), moment]
    return subprocess.run(argv, cwd=ROOT, capture_output=True).returncode


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_submit_that_was_killed_is_repaired_by_another(fake: FakeSlurm, tmp_path: Path, moment: str) -> None:
    asked = errand(tmp_path, 3)
    assert die(tmp_path, 3, moment) == -signal.SIGKILL
    report = asked.submit(missing(asked), known=asked.ledger)
    once_each(asked, fake)
    assert len(fake.calls) == 1, "sbatch was called again although it had been"
    assert bool(report.found) == (moment in ("after sbatch", "before outcome", "after outcome", "before answer"))


def test_an_sbatch_that_outlives_its_client_is_waited_for(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 3)
    fake.say("sbatch-slow", "1.5")
    argv = [sys.executable, "-m", "tests.submissions", str(tmp_path), "3", ""]
    client = subprocess.Popen(argv, cwd=ROOT)
    while not list(Path(asked.profile.shared).glob("sweeps/*/*/began")):
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.wait()
    assert not fake.jobs
    report = asked.submit(known=asked.ledger)
    once_each(asked, fake)
    assert [one.points for one in report.found] == [(0, 1, 2)]


def test_an_sbatch_that_was_killed_after_it_submitted_is_found(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 3)
    fake.say("dies")
    first = asked.submit()
    assert first.unknown and not first.placed
    fake.say("silent")
    assert asked.submit(known=asked.ledger).unknown, "nobody answered, and it was taken for missing"
    fake.forget("dies", "silent")
    asked.submit(known=asked.ledger)
    once_each(asked, fake)


def test_a_job_that_came_and_went_unseen_is_known_by_its_traces(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    fake.say("dies")
    [(one, _)] = asked.submit().unknown
    (Path(asked.profile.shared) / "sweeps" / SWEEP / one.token / "job-100").touch()
    fake.say("queue")  # Slurm has forgotten it
    fake.forget("dies")
    assert asked.submit(known=asked.ledger).jobs == {one.token: "100"}
    assert not fake.jobs


# Limits.


def test_what_does_not_fit_waits_and_follows_when_there_is_room(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 50, profile={"max_array": 10})
    fake.say("limit", "25")
    report = asked.submit()
    assert (report.points(report.placed), report.points(report.waiting)) == (20, 30)
    assert report.limit == "AssocMaxSubmitJobLimit"
    assert len(fake.calls) == 3, "after the first refusal nobody asks again"
    assert (Path(asked.profile.shared) / "sweeps" / SWEEP / "waiting").exists()
    fake.end(fake.jobs[0][0])
    assert len(asked.repair().placed) == 1
    fake.forget("limit")
    asked.repair()
    once_each(asked, fake)
    assert not (Path(asked.profile.shared) / "sweeps" / SWEEP / "waiting").exists()


def test_an_array_that_can_never_fit_is_halved_until_it_does(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 20)
    fake.say("limit", "6")
    asked.submit()
    assert [tasks for _, _, tasks in fake.jobs] == [5]
    while asked.ledger.open:
        for job, _, _ in fake.jobs:
            fake.end(job)
        assert asked.repair().placed
    once_each(asked, fake)
    for one, _ in asked.ledger.taken:  # a half's own order and script are about itself
        folder = Path(asked.profile.shared) / "sweeps" / SWEEP
        told = json.loads((folder / f"{one.token}.json").read_bytes())
        assert told["groups"] == [list(group) for group in one.groups]
        script = (folder / one.token / "submission.sh").read_text()
        assert script.count(one.token) == script.count(SWEEP + "/") + 1  # every path, and the name of the job


def test_an_array_that_is_longer_than_the_profile_believes_is_halved(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 9)
    fake.say("max_array", "4")
    asked.submit()
    once_each(asked, fake)
    assert all(tasks <= 4 for _, _, tasks in fake.jobs)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_halving_that_was_killed_is_repaired(fake: FakeSlurm, tmp_path: Path, moment: str) -> None:
    asked = errand(tmp_path, 8)
    fake.say("max_array", "3")
    assert die(tmp_path, 8, moment) == -signal.SIGKILL
    asked.submit(missing(asked), known=asked.ledger)
    once_each(asked, fake)


def test_throttled_submissions_begin_after_each_other(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 30, profile={"max_array": 10}, max_parallel=4)
    asked.submit()
    jobs = [job for job, _, _ in fake.jobs]
    waits = [call.split()[1] for call in fake.calls if "--dependency" in call]
    assert waits == [f"--dependency=afterany:{jobs[0]}", f"--dependency=afterany:{jobs[1]}"]
    asked.submit([5])  # what is tried again keeps to it, too
    assert f"--dependency=afterany:{jobs[2]}" in fake.calls[-1]


def test_throttled_halves_begin_after_each_other(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 8, max_parallel=2)
    fake.say("max_array", "4")
    asked.submit()
    once_each(asked, fake)
    assert ["--dependency" in call for call in fake.calls] == [False, False, True]
    assert all("--array=0-3%2" in call for call in fake.calls[1:])


# What Slurm refuses, and what it doesn't say.


def test_what_slurm_never_takes_is_told_and_stays_free(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 3)
    fake.say("sbatch-says", "Batch job submission failed: Invalid account or account/partition combination specified")
    report = asked.submit()
    assert [why for _, why in report.refused] == [fake.text("sbatch-says")]
    fake.forget("sbatch-says")
    asked.submit(known=asked.ledger)
    once_each(asked, fake)


@pytest.mark.parametrize("words", ["Batch job submission failed: Socket timed out on send/recv operation", "Oh dear"])
def test_words_that_prove_nothing_are_unknown_until_slurm_is_asked(fake: FakeSlurm, tmp_path: Path, words: str) -> None:
    asked = errand(tmp_path, 3)
    fake.say("sbatch-says", words)
    assert asked.submit().unknown
    fake.forget("sbatch-says")
    asked.submit(known=asked.ledger)
    once_each(asked, fake)


def test_without_sbatch_the_person_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = errand(tmp_path, 2)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no sbatch"):
        asked.submit()
    assert len(asked.ledger.open) == 1


def test_a_full_shared_folder_leaves_the_intent_for_the_next_submit(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = errand(tmp_path, 2, profile={"shared": "/dev/full/x"})
    with pytest.raises(TargetError, match="can't be written"):
        asked.submit()
    assert len(asked.ledger.open) == 1 and not fake.jobs


def test_neither_secrets_nor_options_of_other_jobs_reach_a_job(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launcher.slurm.sbatch import environment

    told = {"AWS_SECRET_ACCESS_KEY": "s", "SBATCH_ACCOUNT": "x", "SLURM_JOB_ID": "1", "HOME": "/h", "LC_ALL": "C"}
    kept = environment({**told, "BASH_FUNC_module%%": "() { :; }", "SLURM_CONF": "/c", "LMOD_CMD": "/l"})
    assert set(kept) == {"HOME", "LC_ALL", "BASH_FUNC_module%%", "SLURM_CONF", "LMOD_CMD"}


# What is continued from nodes.


def test_a_task_that_ends_submits_what_waits(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 20, profile={"max_array": 10})
    fake.say("limit", "15")
    [one] = asked.submit().placed
    order = str(Path(asked.profile.shared) / "sweeps" / SWEEP / f"{one.token}.json")
    fake.end(fake.jobs[0][0])
    main(["continue", order])
    once_each(asked, fake)
    calls = len(fake.calls)
    main(["continue", order])
    assert len(fake.calls) == calls


def test_one_task_at_a_time_submits_what_waits(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 20, profile={"max_array": 10})
    fake.say("limit", "15")
    [one] = asked.submit().placed
    folder = Path(asked.profile.shared) / "sweeps" / SWEEP
    with continuing.alone(folder / "continue.lock") as mine:
        assert mine
        assert continuing.go_on(folder / f"{one.token}.json") is None
    assert (folder / "again").exists(), "the one that is at it would not look once more"


def test_a_task_that_ends_is_light_when_nothing_waits(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    [one] = asked.submit().placed
    order = Path(asked.profile.shared) / "sweeps" / SWEEP / f"{one.token}.json"
    code = (
        "import sys; from launcher.slurm.agent import main; main(sys.argv[1:]);"
        " print([name for name in ('obstore', 'submitit', 'launcher.slurm.submission') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "continue", str(order)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_ledger_is_written_where_the_keys_say(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    asked.submit()
    found = [entry.key for entry in asked.store.list("sweeps/")]
    assert found == [keys.submitted(SWEEP, 1), keys.submission(SWEEP, 1)]
