"""The host side of a run on a box, run in the sandbox: its end, cancels, losses, notices, another start."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher.box import state
from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image.oci import Image
from launcher.store import keys
from tests.box_runs import ROOT, BoxRun, Wish, decisions, deliver
from tests.rootfs import tiny_image
from tests.test_node import COUNTING, WAITING

STUBBORN = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('going', flush=True)\ntime.sleep(600)\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("box-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache)


Make = Callable[..., BoxRun]


@pytest.fixture
def run(
    cache: Cache, image: Image, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """Deliver runs to one box; what is left of them at the end of a test is cancelled."""
    shared = tmp_path / "a box's $folder"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def make(wish: Wish, **more: Any) -> BoxRun:
        found = deliver(shared, cache, image, wish, **more)
        request.addfinalizer(lambda: ended(found))
        return found

    return make


def ended(found: BoxRun) -> None:
    if found.folder.exists() and not found.state.over:
        found.cancel()
        found.over()


def test_a_run_ends_with_its_commands_code(run: Make) -> None:
    one = run(Wish(script="import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)\n"))
    assert one.start().phase in ("waiting", "starting", "running", "ended")
    found = one.over()
    assert (found.phase, found.code, found.attempt) == ("ended", 3, 1)
    assert one.printed(1) == b"out\n"
    assert b"err\n" in one.printed(2)
    assert (one.record.state, one.record.complete, one.record.who) == ("failed", True, "ada")
    assert decisions(one.record) == ["failed"]
    assert one.start() == found, "a second start of what is over changes nothing"
    assert one.states() == [found]
    assert not (one.shared / "cache" / "runs" / one.run).exists(), "what the store has is not kept here"


def test_a_good_end_is_zero(run: Make) -> None:
    one = run(Wish(script="print('done')\n"))
    one.start()
    assert (one.over().code, one.record.state) == (0, "succeeded")


def test_failures_are_tried_again_as_often_as_the_spec_says(run: Make) -> None:
    one = run(Wish(script="import sys\nprint('try')\nsys.exit(7)\n", retries=2))
    one.start()
    assert one.over().code == 7
    assert one.printed(1) == b"try\n" * 3
    assert decisions(one.record) == ["again", "again", "failed"]
    assert [(one.scheduler or {})["kind"] for one in one.record.attempts] == ["ssh"] * 3


def test_a_killed_host_side_goes_on_at_the_next_contact(run: Make) -> None:
    one = run(Wish(script=COUNTING.format(pace=0.2), outputs=("sum",)))
    one.start()
    one.says(b"from 0")
    one.until(lambda: one.record.checkpoints)
    os.kill(one.host(), signal.SIGKILL)
    one.until(lambda: not one.state.alive)
    assert one.state.phase == "running", "nobody has said otherwise"
    assert one.states()[0].alive
    found = one.over()
    assert (found.code, found.attempt) == (0, 2)
    record = one.record
    assert (record.state, len(record.attempts)) == ("succeeded", 2)
    assert decisions(record)[0] == "again"
    assert record.attempts[1].restored is not None
    assert one.store.get(keys.output(one.run, 2, "sum")) == b"5"
    assert b"another attempt follows" in one.printed(0)


def test_what_must_not_restart_ends_with_its_machine(run: Make) -> None:
    one = run(Wish(script=WAITING, restart=False))
    one.start()
    one.says(b"going")
    os.kill(one.host(), signal.SIGKILL)
    one.until(lambda: not one.state.alive)
    one.states()
    found = one.over()
    assert (found.phase, found.code) == ("ended", 137)
    assert "restart: false" in found.why
    assert len(one.record.attempts) == 1


def test_cancel_ends_what_runs(run: Make) -> None:
    one = run(Wish(script=WAITING))
    one.start()
    one.says(b"going")
    found = one.cancel()
    assert found.phase == "cancelled"
    record = one.record
    assert (record.state, decisions(record)) == ("killed", ["cancelled"])
    assert one.start().phase == "cancelled"


def test_cancel_ends_what_does_not_listen(run: Make) -> None:
    one = run(Wish(script=STUBBORN))
    one.start()
    one.says(b"going")
    one.cancel()
    assert one.over().phase == "cancelled"
    assert one.record.state == "killed"


def test_cancel_reaches_a_run_without_a_host_side(run: Make) -> None:
    one = run(Wish(script=WAITING))
    assert one.cancel().phase == "cancelled", "it had not begun"
    assert (one.record.state, one.record.attempts[0].started) == ("killed", None)
    other = run(Wish(script=WAITING))
    other.start()
    other.says(b"going")
    os.kill(other.host(), signal.SIGKILL)
    other.until(lambda: not other.state.alive)
    assert other.cancel().phase == "cancelled"
    assert decisions(other.record) == ["cancelled"]


def test_a_box_that_goes_down_holds_its_runs(run: Make) -> None:
    one = run(Wish(script=COUNTING.format(pace=0.2)))
    one.start()
    one.says(b"from 0")
    one.until(lambda: one.record.checkpoints)
    os.kill(one.host(), signal.SIGTERM)
    one.until(lambda: not one.state.alive)
    assert one.state.phase == "held"
    assert decisions(one.record) == ["hold"]
    assert one.states()[0].alive
    assert one.over().code == 0
    assert one.record.attempts[1].restored is not None


def test_a_notice_leads_to_a_last_checkpoint(run: Make, tmp_path: Path) -> None:
    notice = tmp_path / "going"
    one = run(Wish(script=COUNTING.format(pace=0.2)), notice=(str(notice),))
    one.start()
    one.says(b"from 0")
    notice.touch()
    one.until(lambda: one.state.phase == "held")
    assert "taken away" in one.state.why
    assert one.state.alive, "it waits for the end of the box"
    assert decisions(one.record) == ["hold"]
    assert one.cancel().phase == "cancelled"


def test_a_run_that_others_have_is_left_alone(run: Make) -> None:
    one = run(Wish(script="print('ran')\n"))
    records.end_for_dead(one.store, one.run, 1, "the box is gone")
    records.submit(one.store, one.order.job, attempt=2, scheduler={"kind": "ssh", "target": "other"})
    one.start()
    found = one.over()
    assert (found.phase, found.code) == ("ended", 75)
    assert "attempt 2 has the run" in found.why
    assert b"ran" not in one.printed(1)


def test_a_new_order_goes_on_where_the_last_one_ended(run: Make) -> None:
    one = run(Wish(script="import sys\nprint('again')\nsys.exit(1)\n"))
    one.start()
    assert one.over().code == 1
    records.submit(one.store, one.order.job, attempt=2, scheduler={"kind": "ssh", "target": "box"})
    second = one.with_order(attempt=2)
    second.start()
    found = second.over()
    assert (found.attempt, found.code) == (2, 1)
    assert second.printed(1) == b"again\nagain\n"


def test_a_damaged_run_hides_no_other(run: Make) -> None:
    one, other = run(Wish(script="print('done')\n")), run(Wish(script="print('done')\n"))
    one.start()
    one.over()
    (other.folder / state.STATE).write_text('{"run": ')
    assert [found.run for found in one.states()] == [one.run]
    with pytest.raises(TargetError, match="can't be read"):
        other.ask("states", shared=str(other.shared), runs=[other.run])
    (other.folder / state.STATE).unlink()


def test_two_starts_at_once_are_one(run: Make) -> None:
    from concurrent.futures import ThreadPoolExecutor

    one = run(Wish(script="import time\nprint('once', flush=True)\ntime.sleep(1)\n"))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: one.start(), range(3)))
    one.over()
    assert one.printed(1) == b"once\n"


def test_a_broken_image_is_told(run: Make) -> None:
    one = run(Wish(script="print('ran')\n"))
    one.with_order(image="0" * 64).start()
    found = one.over()
    assert (found.phase, found.code) == ("ended", 69)
    assert "image" in found.why
    assert (one.record.state, decisions(one.record)) == ("killed", ["failed"])
    assert "image" in str(one.record.reason)
