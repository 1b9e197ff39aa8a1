"""Reading what squeue, scontrol and sacct print, and what it is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.slurm import queue
from launcher.slurm.queue import Answer, Row, Silence, indices
from launcher.slurm.states import OVER, PENDING, RUNNING, sight, state_of
from tests.fake_slurm import FakeSlurm, install

SQUEUE = """\
1207|0|launcher-aa|RUNNING|node1|None
1207|[1-3,9%2]|launcher-aa|PENDING||JobArrayTaskLimit
1208|N/A|launcher-bb|COMPLETED|node[1-2]|None
1209|0-4|launcher-cc|PENDING||ReqNodeNotAvail, UnavailableNodes:node[1|2]
"""
SCONTROL = """\
JobId=1210 ArrayJobId=1207 ArrayTaskId=1-3%2 ArrayTaskThrottle=2 JobName=launcher-aa UserId=ada(2001) JobState=PENDING \
Reason=JobArrayTaskLimit Dependency=(null) NodeList= BatchHost=node1 Comment=launcher x JobState=no
JobId=1208 JobName=launcher-bb UserId=ada(2001) GroupId=ada(2001) JobState=RUNNING Reason=None NodeList=node[1-2]
JobId=1299 JobName=another UserId=bob(2002) JobState=RUNNING Reason=None NodeList=node3
"""
SACCT = """\
1207_0|launcher-aa|COMPLETED|node1
1207_[1-3%2]|launcher-aa|PENDING|None assigned
1208|launcher-bb|CANCELLED by 2001|node1
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    found = install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{found.programs}:/usr/bin:/bin")
    return found


def test_squeue_is_read_also_where_a_reason_holds_separators() -> None:
    rows = list(queue.squeue_rows(SQUEUE))
    assert [row.indices for row in rows] == [(0,), (1, 2, 3, 9), (0,), (0, 1, 2, 3, 4)]
    assert [row.array for row in rows] == [True, True, False, True]
    assert rows[3].reason == "ReqNodeNotAvail, UnavailableNodes:node[1|2]"
    assert rows[2].node == "node[1-2]"


@pytest.mark.parametrize("said", ["slurm_load_jobs error", "12|0|x|RUNNING", "1|0-9...|n|PENDING||x", "1|_|n|R||x"])
def test_half_an_answer_is_none(said: str) -> None:
    with pytest.raises(ValueError):
        list(queue.squeue_rows(said))


def test_scontrol_is_read() -> None:
    rows = list(queue.scontrol_rows(SCONTROL))
    assert rows[0] == Row(
        job="1207", indices=(1, 2, 3), array=True, name="launcher-aa", state="PENDING", reason="JobArrayTaskLimit"
    )
    assert (rows[1].job, rows[1].state, rows[1].node, rows[1].array) == ("1208", "RUNNING", "node[1-2]", False)
    assert list(queue.scontrol_rows("No jobs in the system\n")) == []
    with pytest.raises(ValueError, match="no line of scontrol"):
        list(queue.scontrol_rows("slurm_load_jobs error: Unable to contact slurm controller"))


def test_sacct_is_read() -> None:
    rows = list(queue.sacct_rows(SACCT))
    assert [(row.job, row.indices, row.state) for row in rows] == [
        ("1207", (0,), "COMPLETED"),
        ("1207", (1, 2, 3), "PENDING"),
        ("1208", (0,), "CANCELLED"),
    ]
    with pytest.raises(ValueError):
        list(queue.sacct_rows("sacct: error: slurmdbd\n"))


def test_indices_with_steps_are_read() -> None:
    assert indices("0-8:4,20") == (0, 4, 8, 20)


def test_where_squeue_is_silent_the_others_are_asked_and_all_their_words_are_told(fake: FakeSlurm) -> None:
    assert queue.ask(["launcher-aa"]) == Answer()
    fake.say("silent")
    found = queue.ask(["launcher-aa"], ["100"])
    assert isinstance(found, Silence)
    assert "squeue: Unable to contact" in found.why and "scontrol" in found.why and "sacct" in found.why


def test_a_program_that_is_missing_is_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(queue.ask(["launcher-aa"]), Silence)
    assert not queue.is_empty()


def test_the_task_that_asks_does_not_count_as_one_that_will_make_room(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queue.is_empty()
    fake.say("queue", "100|launcher-aa|0-0|RUNNING|one\n")
    assert not queue.is_empty()
    monkeypatch.setenv("SLURM_JOB_ID", "100")
    assert queue.is_empty()


@pytest.mark.parametrize("word", sorted(PENDING | RUNNING | OVER | {"COMPLETING", "SOMETHING_NEW", ""}))
def test_only_who_answers_surely_says_that_something_is_over(word: str) -> None:
    sure, unsure = state_of(word, Answer()), state_of(word, Answer(by="sacct", surely=False))
    if word in OVER:
        assert sure == "gone"
        assert unsure == ("gone" if word == "COMPLETED" else "unknown")  # it may have been requeued since
    else:
        assert sure == unsure
        assert (sure == "unknown") == (word in ("SOMETHING_NEW", ""))


def test_what_is_not_in_an_answer_is_gone_only_if_its_id_was_known_and_the_answer_is_whole() -> None:
    assert sight(None, Answer(), known=True, task=3).state == "gone"
    assert sight(None, Answer(), known=False, task=3).state == "unknown"
    assert sight(None, Answer(surely=False), known=True, task=3).state == "unknown"


def test_a_pending_task_is_told_in_plain_words() -> None:
    row = Row(job="12", indices=(3, 4), array=True, name="n", state="PENDING", reason="Priority")
    found = sight(row, Answer(), known=True, task=3)
    assert (found.state, found.job) == ("pending", "12_3")
    assert found.reason == "others are before it in this partition (Priority)"
