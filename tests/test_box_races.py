"""Two at once on a box: a run is begun anew beside its last host side, or beside its removal; others stand by."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.box import agent, credentials, keeping, state
from launcher.box.giving import Giving
from launcher.box.lineage import Line
from launcher.box.model import Order, State
from launcher.box.queue import Queue, Ticket
from launcher.box.stock import packed
from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.profiles.model import Profile
from launcher.runner.clock import stamp
from launcher.store import keys
from launcher.store.access import Access

RUN = "20261121-120000-race-abcd"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Begin no host side, but say which would have been."""
    found: list[Path] = []

    def kept(folder: Path, order: Order) -> None:
        assert not state.is_alive(folder)
        found.append(folder)

    monkeypatch.setattr(keeping, "detached", kept)
    monkeypatch.setattr(keeping, "START_S", 0.0)
    monkeypatch.setattr(credentials, "MEMORY", tmp_path / "memory")
    return found


def order(shared: Path, attempt: int = 1) -> Order:
    profile = Profile(name="box", kind="ssh", host="box.example.org", shared=str(shared), runtime="sandbox")
    store = Access(str(shared / "store"))
    return Order(
        run=RUN, job={}, attempt=attempt, tools="/nowhere", profile=profile, store=store, ship="relay", image="0" * 64
    )


def start(shared: Path, attempt: int) -> None:
    folder = state.folder(str(shared), RUN)
    agent.start({"order": str(folder / state.ORDER), "told": order(shared, attempt).to_json()})


def stand(shared: Path, phase: str) -> Path:
    folder = state.folder(str(shared), RUN)
    folder.mkdir(parents=True)
    (folder / state.ORDER).write_text(json.dumps(order(shared).to_json()))
    state.write(folder, State(run=RUN, phase=phase, when=stamp(), attempt=1))  # type: ignore[arg-type]
    return folder


def test_a_run_that_is_resumed_while_its_host_side_is_on_its_way_out_begins(tmp_path: Path, begun: list[Path]) -> None:
    folder = stand(tmp_path, "cancelled")
    over, holding = threading.Event(), threading.Event()

    def last_acts() -> None:
        with state.held(folder) as mine:
            assert mine
            holding.set()
            over.wait(30)

    host = threading.Thread(target=last_acts)
    host.start()
    assert holding.wait(30)
    client = threading.Thread(target=start, args=(tmp_path, 2))
    client.start()
    client.join(0.3)
    assert client.is_alive() and state.order(folder).attempt == 1
    over.set()
    for thread in (host, client):
        thread.join(30)
    assert set(begun) == {folder} and state.read(folder).phase == "waiting"


def test_a_later_attempt_takes_no_order_from_a_run_under_way(tmp_path: Path, begun: list[Path]) -> None:
    folder = stand(tmp_path, "running")
    with state.held(folder):
        with pytest.raises(TargetError, match="under way"):
            start(tmp_path, 2)
        start(tmp_path, 1)  # the same again is no other
    assert state.order(folder).attempt == 1 and not begun


def test_a_start_that_waits_for_a_removal_makes_the_folder_anew(tmp_path: Path, begun: list[Path]) -> None:
    folder = stand(tmp_path, "ended")
    with state.changing(folder):
        client = threading.Thread(target=start, args=(tmp_path, 2))
        client.start()
        client.join(0.2)
        assert client.is_alive()
        away = folder.rename(tmp_path / "away")
    client.join(30)
    assert set(begun) == {folder} and state.order(folder).attempt == 2
    shutil.rmtree(away)


class Hearing:
    """Takes the frames of a round; `begins` is done when the box has said what it has."""

    def __init__(self, begins: Callable[[], object]) -> None:
        self.begins = begins

    def send(self, kind: str, payload: bytes = b"", **told: object) -> None:
        if kind == "plan":
            self.begins()

    def beat(self) -> None:
        return


def test_a_round_says_nothing_is_left_only_of_a_run_that_is_still_over(tmp_path: Path) -> None:
    folder = stand(tmp_path, "ended")
    request = {"known": packed([]), "line": Line().to_json()}

    def again() -> None:
        state.write(folder, State(run=RUN, phase="running", when=stamp(), attempt=2))

    for begins, relayed in ((again, False), (lambda: None, True)):
        state.write(folder, State(run=RUN, phase="ended", when=stamp(), attempt=1))
        Giving(folder, tmp_path / "store" / keys.run(RUN), request, Hearing(begins)).work()  # type: ignore[arg-type]
        assert (folder / state.RELAYED).exists() is relayed


def test_who_leaves_the_queue_takes_nobody_with_them(tmp_path: Path) -> None:
    shared, locks = str(tmp_path), Cache(tmp_path / "locks")
    longer = Queue(shared, f"of-{RUN}", tmp_path / "a", locks)
    queue = Queue(shared, RUN, tmp_path / "b", locks)
    for number, one in enumerate((longer, queue)):
        one.write(Ticket(number=number + 1, run=one.run, count=1), ())
    queue.leave()
    assert [one.run for one in queue.tickets()] == [longer.run]


def test_nobody_else_writes_to_what_a_run_has_on_a_box_nor_lists_it(tmp_path: Path, begun: list[Path]) -> None:
    shared = tmp_path / "shared"
    before = os.umask(0)
    try:
        for part in ("store", "inputs", "artifacts"):
            (shared / part).mkdir(parents=True)
        start(shared, 1)
    finally:
        os.umask(before)
    for part in ("jobs", "store", "inputs", "artifacts"):
        assert not (shared / part).stat().st_mode & 0o066, part
    assert not state.folder(str(shared), RUN).stat().st_mode & 0o077


def test_programs_on_a_box_let_nobody_else_write(tmp_path: Path) -> None:
    """Whatever the umask is that a login has."""
    for words in (["launcher.box.agent"], ["launcher.remote.receiving", str(tmp_path / "there")]):
        asked = b'{"kind": "end"}\n' if len(words) == 2 else json.dumps({"call": "no", "argument": {}}).encode()
        code = "import os, sys, runpy; os.umask(0); sys.argv = sys.argv[1:]"
        code += "; runpy.run_module(sys.argv[0], run_name='__main__'); os.write(2, f'umask {os.umask(0):o}'.encode())"
        root = Path(__file__).parents[1]
        argv = [sys.executable, "-c", code, *words]
        done = subprocess.run(argv, input=asked, capture_output=True, cwd=root, timeout=60, check=True)
        assert int(done.stderr.rpartition(b"umask ")[2], 8) & 0o002, done.stderr
    assert not (tmp_path / "there").stat().st_mode & 0o002
