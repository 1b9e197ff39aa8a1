"""What is said of a sweep's points by the scheduler: nothing that it didn't say; and how they are cancelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.data import data_path
from launcher.errors import TargetError
from launcher.records.sweeps import cancelled
from launcher.slurm import cancelling
from launcher.slurm.reasons import plain, table
from launcher.slurm.sbatch import job_id, judged
from launcher.slurm.states import Look, look, together
from launcher.toml import parse
from tests.fake_slurm import FakeSlurm, install
from tests.submissions import SWEEP, Errand, errand


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    found = install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{found.programs}:/usr/bin:/bin")
    return found


def states(asked: Errand) -> dict[int, str]:
    return {point: seen.state for point, seen in (look(asked.ledger, asked.door).seen or {}).items()}


def test_points_are_where_slurm_says(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 4, profile={"max_array": 2})
    asked.submit()
    fake.end(fake.jobs[1][0])
    assert states(asked) == {0: "pending", 1: "pending", 2: "gone", 3: "gone"}
    found = look(asked.ledger, asked.door)
    assert found.seen and found.seen[1].job == "100_1"
    assert found.sent == frozenset(range(4)) and not found.waiting and not found.notes


def test_no_answer_is_none_and_says_why(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    asked.submit()
    fake.say("silent")
    found = look(asked.ledger, asked.door)
    assert found.seen is None and found.sent == {0, 1}
    assert found.notes[0].startswith("Slurm does not answer: squeue: Unable to contact")


def test_no_way_to_the_site_is_none_too(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    asked.submit()

    def lost(name: str, argument: object) -> None:
        raise TargetError("no way to login.example.org")

    found = look(asked.ledger, replace(asked.door, ask=lost))
    assert found.seen is None and found.sent == {0, 1}
    assert found.notes == ("Slurm does not answer: no way to login.example.org",)


def test_what_waits_for_a_limit_is_told_apart_from_what_nobody_knows(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 6, profile={"max_array": 2})
    fake.say("limit", "2")
    asked.submit()
    fake.forget("limit")
    fake.say("sbatch-says", "Batch job submission failed: Socket timed out on send/recv operation")
    asked.repair()
    assert states(asked) == {0: "pending", 1: "pending", **dict.fromkeys(range(2, 6), "unknown")}
    found = look(asked.ledger, asked.door)
    assert found.sent == frozenset(range(6)) and not found.waiting


def test_a_point_that_surely_was_never_submitted_waits(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 6, profile={"max_array": 2})
    fake.say("limit", "2")
    asked.submit()
    found = look(asked.ledger, asked.door)
    assert (found.sent, found.waiting) == ({0, 1}, {2, 3, 4, 5})


def test_a_job_whose_answer_never_reached_the_store_is_seen(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    fake.say("dies")
    asked.submit()
    assert asked.ledger.open
    assert states(asked) == {0: "pending", 1: "pending"}
    fake.say("queue")
    assert states(asked) == {0: "unknown", 1: "unknown"}, "an sbatch that nobody saw end is not gone"


def test_several_sites_are_one_look() -> None:
    from launcher.slurm.model import Seen

    one = Look(seen={0: Seen(state="running")}, sent=frozenset({0}))
    silent = Look(seen=None, sent=frozenset({1}), notes=("no answer",))
    both = together([one, silent])
    assert both.seen == {0: Seen(state="running"), 1: Seen(state="unknown")}
    assert together([silent]).seen is None and both.notes == ("no answer",)


# Cancelling.


def test_cancelling_marks_the_store_first_and_names_tasks(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 6, profile={"max_array": 3})
    asked.submit()
    found = cancelling.cancel(asked.store, SWEEP, [0, 1, 3, 4, 5], doors=[asked.door])
    assert cancelled(asked.store, SWEEP) == {0, 1, 3, 4, 5}
    assert found.jobs == ("100_[0-1]", "101")
    assert fake.text("cancelled") == "100_[0-1] 101\n"
    assert not found.complaints and not found.beside


def test_what_is_packed_with_others_is_told(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 4, pack=2)
    asked.submit()
    found = cancelling.cancel(asked.store, SWEEP, [0, 2, 3], doors=[asked.door])
    assert (found.jobs, found.beside) == (("100_[1]",), (0,))


def test_what_waits_is_dropped_and_never_submitted(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 6, profile={"max_array": 2})
    fake.say("limit", "2")
    asked.submit()
    cancelling.cancel(asked.store, SWEEP, range(2, 6), doors=[asked.door])
    fake.forget("limit")
    assert not asked.repair().placed
    assert len(fake.jobs) == 1 and not asked.ledger.open
    assert cancelling.unmark(asked.store, SWEEP, [2, 3]) == {4, 5}
    assert [one.points for one in asked.submit([2, 3]).placed] == [(2, 3)]


def test_an_sbatch_that_nobody_saw_end_is_cancelled_too(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    fake.say("dies")
    asked.submit()
    assert cancelling.cancel(asked.store, SWEEP, [0, 1], doors=[asked.door]).jobs == ("100",)


def test_a_site_that_can_not_be_reached_is_said_and_the_mark_stays(fake: FakeSlurm, tmp_path: Path) -> None:
    asked = errand(tmp_path, 2)
    asked.submit()

    def lost(name: str, argument: object) -> None:
        raise TargetError("no way there")

    found = cancelling.cancel(asked.store, SWEEP, [0, 1], doors=[replace(asked.door, ask=lost)])
    assert found.complaints == ("lab can't be reached: no way there",)
    assert cancelled(asked.store, SWEEP) == {0, 1}


# Words.

POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("reason", "begins"),
    [
        ("Priority", "others are before it"),
        ("(Resources)", "it is next"),
        ("ReqNodeNotAvail, UnavailableNodes:node1", "a node that it needs is down"),
        ("QOSMaxCpuPerUserLimit", "it wants, or you use, more than its QOS gives"),
        ("AssocGrpGRES", "all of your account together"),
        ("MaxGRESPerAccount", "your account uses as much"),
        ("JobArrayTaskLimit", "as many tasks of its array run as `max_parallel` allows"),
        ("Something New", "Slurm says: Something New"),
    ],
)
def test_reasons_are_told_in_plain_words(reason: str, begins: str) -> None:
    assert plain(reason).startswith(begins)


def test_every_reason_says_what_it_means() -> None:
    for code, told in table().items():
        assert set(told) <= {"means", "do"} and told["means"], code
        assert "\n" not in plain(code) and len(plain(code)) < 200


@pytest.mark.parametrize(
    ("said", "code", "kind"),
    [
        ("AssocMaxSubmitJobLimit\nBatch job submission failed: " + POLICY, 1, "limit"),
        ("QOSMaxSubmitJobPerUserLimit\nBatch job submission failed: " + POLICY, 1, "limit"),
        ("Batch job submission failed: Invalid job array specification", 1, "too_big"),
        ("Batch job submission failed: Invalid qos specification", 1, "refused"),
        ("QOSMaxNodePerJobLimit\nBatch job submission failed: " + POLICY, 1, "refused"),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", 1, "unknown"),
        ("Batch job submission failed: Socket timed out on send/recv operation", 1, "unknown"),
        ("a word that nobody has heard", 1, "unknown"),
        ("", -9, "unknown"),
    ],
)
def test_what_sbatch_says_is_taken_for_what_it_proves(said: str, code: int, kind: str) -> None:
    assert judged(said, code)[0] == kind


def test_an_id_is_read_also_where_there_are_several_clusters() -> None:
    assert job_id("123\n") == "123"
    assert job_id("some words of the site\n123;north\n") == "123"
    assert job_id("Submitted batch job 12\n") is None


def test_no_words_of_sbatch_stand_for_two_things() -> None:
    path = data_path("slurm", "sbatch.toml")
    told = parse(path.read_text(), path.name, TargetError)
    every = [one.lower() for kind in told.values() for one in kind["says"]]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("submitted", "asked", "owned"),
    [
        ({}, {}, True),
        ({"cluster": None}, {}, True),  # doctor has found out since what it is called
        ({}, {"name": "other"}, True),  # another machine calls its target otherwise
        ({"cluster": None}, {"name": "other"}, False),
        ({}, {"cluster": "south"}, False),
        ({}, {"shared": "/elsewhere"}, False),
    ],
)
def test_a_site_is_known_whatever_its_target_is_called(
    tmp_path: Path, submitted: dict[str, str], asked: dict[str, str], owned: bool
) -> None:
    from launcher.slurm.ledger import Ledger
    from launcher.slurm.submission import drafts

    one = errand(tmp_path, 1, profile=submitted)
    [made] = drafts(Ledger(sweep=SWEEP), one.plan, [0], one.door)
    door = replace(one.door, profile=replace(errand(tmp_path, 1).profile, **asked))
    assert door.owns(made) == owned
