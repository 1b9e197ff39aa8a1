"""Where points stand: what a run says of itself first, what the scheduler says second; and what is sent again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.job import plan
from launcher.job.sweeps import Plan
from launcher.records import sweeps
from launcher.records.brief import Brief
from launcher.records.standing import Known, Standing, failed, standing, to_do
from launcher.spec.model import CodeSpec, ImageSpec, Spec
from launcher.store import keys
from launcher.sweep import Point

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Seen:
    state: str
    reason: str | None = None


def made(count: int = 1, entropy: bytes = b"\0\1\2\3", name: str = "trial", seeds: bool = False) -> Plan:
    """Return the plan of so many points, which differ in `lr`, and in their seeds if told so."""
    root = Path("/x")
    params = {"lr": 0.1, "layers": 2}
    spec = Spec(
        name=name,
        image=ImageSpec(),
        code=CodeSpec(root=root),
        file=root / "s.yaml",
        run="a {lr} {layers}",
        params=params,
    )
    points = [Point(params={"lr": float(number)}, seed=number if seeds else None) for number in range(count)]
    jobs = plan(spec, lock="1" * 64, image="2" * 64, code="3" * 64, now=NOW, entropy=entropy, points=points)
    return Plan.of(jobs, spec, when=NOW, who="ada")


def one(
    run: str | None, scheduler: str | None, *, sent: bool = True, cancelled: bool = False, reason: str | None = None
) -> Standing:
    """Judge one point by the state of its run and the word of the scheduler; None: not there, no answer."""
    of = made()
    briefs = {of.runs[0]: Brief(run=of.runs[0], state=run, reason=reason)} if run else {}
    seen = None if scheduler is None else {0: Seen(scheduler)}
    marked = {0} if cancelled else set()
    return standing(of, Known(briefs=briefs, seen=seen, sent={0} if sent else set(), cancelled=marked))


# (the run's state, the scheduler's word, submitted) -> the point's state, whether submitting again sends it
TABLE = [
    (None, None, False, "waiting", True),
    (None, None, True, "unknown", False),
    (None, "unknown", True, "unknown", False),
    (None, "pending", True, "queued", False),
    (None, "running", True, "running", False),
    (None, "completing", True, "running", False),
    (None, "gone", True, "lost", True),
    ("queued", None, True, "queued", False),
    ("queued", "gone", True, "lost", True),
    ("queued", "running", True, "running", False),
    ("running", None, True, "running", False),
    ("running", "running", True, "running", False),
    ("running", "pending", True, "queued", False),
    ("running", "gone", True, "lost", True),
    ("unknown", None, True, "unknown", False),
    ("unknown", "unknown", True, "unknown", False),
    ("unknown", "running", True, "running", False),
    ("unknown", "gone", True, "lost", True),
    ("succeeded", None, True, "succeeded", False),
    ("succeeded", "gone", True, "succeeded", False),
    ("succeeded", "completing", True, "succeeded", False),
    ("failed", "gone", True, "failed", True),
    ("failed", "completing", True, "failed", False),
    ("failed", "pending", True, "queued", False),
    ("failed", None, True, "failed", False),
    ("killed", "gone", True, "killed", True),
    ("killed", "running", True, "running", False),
    ("killed", "pending", True, "queued", False),
    ("killed", None, True, "unknown", False),  # it may be about to be requeued
    ("killed", "completing", True, "running", False),
    ("refused", "gone", True, "refused", True),
    ("failed", None, False, "failed", True),  # it ran elsewhere, by hand
]


@pytest.mark.parametrize(("run", "scheduler", "sent", "state", "again"), TABLE)
def test_where_a_point_stands(run: str | None, scheduler: str | None, sent: bool, state: str, again: bool) -> None:
    found = one(run, scheduler, sent=sent)
    assert found.points[0].state == state
    assert to_do(found) == ((0,) if again else ())
    assert set(failed(found)) <= set(to_do(found))


@pytest.mark.parametrize(
    ("word", "over"), [("pending", True), ("running", False), ("completing", False), ("gone", True)]
)
def test_what_has_succeeded_is_not_waited_for_in_the_queue(word: str, over: bool) -> None:
    """A controller that was killed while a job began may requeue it afterwards, and hold it for ever."""
    assert one("succeeded", word, sent=True).over is over


@pytest.mark.parametrize(
    ("run", "scheduler", "sent", "state"),
    [
        (None, None, False, "cancelled"),
        (None, "gone", True, "cancelled"),
        (None, "pending", True, "queued"),  # until the scheduler has let go of it
        ("running", "running", True, "running"),
        ("killed", "gone", True, "cancelled"),
        ("running", "gone", True, "cancelled"),
        ("succeeded", "gone", True, "succeeded"),
        ("failed", "gone", True, "failed"),  # that it did by itself, before
        ("failed", None, False, "failed"),
        ("refused", "gone", True, "refused"),
    ],
)
def test_what_was_cancelled_is_not_sent_again_by_itself(
    run: str | None, scheduler: str | None, sent: bool, state: str
) -> None:
    found = one(run, scheduler, sent=sent, cancelled=True)
    assert found.points[0].state == state and to_do(found) == ()
    assert to_do(found, cancelled=True) == ((0,) if state in ("cancelled", "failed", "refused") else ())
    assert failed(found) == ((0,) if state in ("failed", "refused") else ())


@pytest.mark.parametrize(
    ("run", "scheduler", "state"),
    [
        (None, None, "waiting"),
        (None, "unknown", "waiting"),
        (None, "gone", "waiting"),
        (None, "pending", "queued"),
        ("running", None, "running"),
        ("failed", None, "waiting"),
    ],
)
def test_a_submission_that_waits_is_gone_on_with_and_never_sent_anew(
    run: str | None, scheduler: str | None, state: str
) -> None:
    of = made()
    briefs = {of.runs[0]: Brief(run=of.runs[0], state=run)} if run else {}
    seen = None if scheduler is None else {0: Seen(scheduler)}
    found = standing(of, Known(briefs=briefs, seen=seen, sent={0}, held={0}))
    assert found.points[0].state == state and to_do(found, cancelled=True) == () and not failed(found)


def test_a_silent_scheduler_never_makes_anything_run_twice() -> None:
    for run in (None, "queued", "running", "unknown", "failed", "killed", "refused", "succeeded"):
        found = one(run, None)
        assert to_do(found, cancelled=True) == () and failed(found) == () and not found.answered


def test_a_sweep_is_over_when_nothing_more_happens_by_itself() -> None:
    assert one("succeeded", "gone").over and one("failed", "gone").over and one("failed", None).over
    for run, word in ((None, "pending"), ("running", "running"), ("killed", "running"), (None, None)):
        assert not one(run, word).over


def test_a_point_that_another_sweep_has_finished_is_done() -> None:
    of = made(3)
    other = Brief(run="other-run", state="succeeded", params={"lr": 1.0})
    found = standing(of, Known(done={of.digests[1]: "other-run"}, others={"other-run": other}))
    assert [point.state for point in found.points] == ["waiting", "succeeded", "waiting"]
    assert found.points[1].by == found.points[1].run == "other-run" and found.points[1].brief is other
    assert to_do(found) == (0, 2) and found.counts == {"succeeded": 1, "waiting": 2}


def test_points_that_have_not_begun_are_rows_with_all_their_parameters() -> None:
    found = standing(made(2), Known())
    assert [point.brief.params for point in found.points] == [{"lr": 0.0, "layers": 2}, {"lr": 1.0, "layers": 2}]
    assert found.points[1].brief.state == "waiting" and not found.points[1].begun


def test_sweeps_are_found_by_the_beginning_of_their_id_and_runs_by_their_plans(tmp_path: Path) -> None:
    store = stores.open(str(tmp_path))
    first, second = made(2), made(3, entropy=b"abcd", name="other-one")
    assert sweeps.settle(store, first) == first and sweeps.settle(store, second) == second
    assert sweeps.settle(store, made(2, entropy=b"late")) == first, "who is late takes the plan that is there"
    assert sweeps.ls(store) == tuple(sorted([first.sweep, second.sweep]))
    assert sweeps.find(store, "oth") == second.sweep
    assert sweeps.holding(store, second.runs[2]) == [(second.sweep, second.runs[2])]
    assert [run for _, run in sweeps.holding(store, first.runs[0][:-1])] == list(first.runs)


def test_finished_points_count_for_others_but_not_for_who_asks_again(tmp_path: Path) -> None:
    store = stores.open(str(tmp_path))
    of = made(2)
    store.create(keys.point(of.group, of.digests[1]), b"some-run")
    assert sweeps.finished(store, of, {}) == {of.digests[1]: "some-run"}
    assert sweeps.finished(store, of.numbered(2), {}) == {}
