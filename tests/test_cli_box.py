"""The verbs of boxes without a box: what is refused, what is told of a run, and letting go without harm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from launcher import records
from launcher import store as stores
from launcher.box.model import State
from launcher.cache import Cache
from launcher.cli import attaching, box_status, boxes, invoke, launch
from launcher.cli.rerun import recorded
from launcher.errors import StoreError, TargetError, UnreachableError
from launcher.job import Job, to_json
from launcher.profiles.model import Profile
from launcher.records.brief import Brief
from launcher.runner.clock import stamp
from launcher.ssh.following import Following
from launcher.ssh.launching import Launched
from launcher.store import keys
from launcher.store.objects import Store

RUN = "20260101-000000-a-abcdef"
PROFILE = Profile(name="box", kind="ssh", host="box.example.org", shared="/root/.launcher")
DEAD = TargetError("there is no way to box.example.org: timed out")


def state(phase: Any, **more: Any) -> State:
    return State(run=RUN, phase=phase, when=stamp(), **{"alive": True, **more})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a box, a cluster, and a store that is a folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    targets = tmp_path / "config" / "launcher" / "targets"
    targets.mkdir(parents=True)
    (targets / "box.toml").write_text('[target]\nkind = "ssh"\nhost = "box.example.org"\n')
    (targets / "lab.toml").write_text('[target]\nkind = "slurm"\nshared = "/shared"\n')
    (tmp_path / "a.yaml").write_text("name: a\nrun: python train.py\n")
    (tmp_path / "sweep.yaml").write_text("name: a\nrun: python x.py {n}\nparams: {n: 1}\nsweep: {grid: {n: [1, 2]}}\n")
    return tmp_path


@pytest.fixture
def store(home: Path) -> Store:
    """The store of that machine, with one run that was sent to the box."""
    opened = stores.open(str(home / "store"))
    records.submit(opened, {"run": RUN, "name": "a"}, scheduler={"kind": "ssh", "target": "box"})
    sent_to(opened, 1)
    return opened


def sent_to(
    opened: Store, number: int, target: str = "box", ship: str = "relay", host: str = "box.example.org"
) -> None:
    told = {"target": target, "host": host, "kind": "ssh", "ship": ship, "folder": "/root/.launcher", "when": stamp()}
    opened.create(keys.target(RUN, number), json.dumps(told).encode())


def event(opened: Store, seq: int, kind: str, **facts: Any) -> None:
    told = {"kind": kind, "time": stamp(), "attempt": 1, "seq": seq, **facts}
    opened.create(keys.event(RUN, 1, seq), json.dumps(told).encode())


def answering(monkeypatch: pytest.MonkeyPatch, *found: State, error: Exception | None = None) -> list[Any]:
    """Let boxes say this of their runs, or not answer; return what they were asked for."""
    asked: list[Any] = []

    def states(profile: Profile, runs: Sequence[str] | None, **more: Any) -> tuple[State, ...]:
        asked.append((profile.name, runs))
        if error:
            raise error
        return found

    monkeypatch.setattr("launcher.ssh.states.states", states)
    return asked


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["run", "a.yaml", "--detach"], "--detach goes with --on", "ends with this command"),
        (["run", "a.yaml", "--on", "lab"], "lab is a Slurm cluster", "`launcher submit SPEC --on lab`"),
        (["run", "a.yaml", "--on", "bix"], "there is no target `bix`", "did you mean `box`?"),
        (["run", "sweep.yaml", "--on", "box"], "is a sweep of 2 points", "--point 0"),
        (["run", "sweep.yaml", "--on", "box", "--point", "2"], "there is no point 2", "launcher points"),
        (["run", "a.yaml", "--on", "box", "--data", "x=y"], "--data goes with --resume", "data:"),
        (["run", "a.yaml", "--resume", RUN, "--on", "box"], "--resume goes on with what the record says", "leave SPEC"),
        (["submit", "sweep.yaml", "--on", "box"], "box is no Slurm cluster", "`launcher run SPEC --on box`"),
        (["status", "--on", "lab"], "lab is a Slurm cluster", "launcher submit"),
        (["attach", "2026"], "no run or sweep in", "launcher ls"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_what_to_type(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
    hint: str,
) -> None:
    monkeypatch.chdir(home)
    assert invoke(words) == 2
    told = capsys.readouterr().err
    assert message in told and hint in told
    assert not list(home.glob("*.lock"))


def brief(name: str, **more: Any) -> Brief:
    return Brief(run=RUN, state=name, **more)


@pytest.mark.parametrize(
    ("told", "seen", "name", "reason"),
    [
        (brief("succeeded"), state("running"), "succeeded", None),
        (brief("succeeded"), None, "succeeded", None),
        (brief("failed"), state("ended", code=1), "failed", None),
        (brief("killed"), state("starting", attempt=2), "queued", "starting"),  # another attempt follows
        (brief("killed"), None, "killed", None),
        (brief("queued"), state("waiting", place=2), "queued", "waits for a GPU, 2 runs before it"),
        (brief("queued"), state("waiting", place=0), "queued", "waits for a GPU, first in the queue"),
        (brief("unknown"), state("running"), "running", None),
        (brief("unknown"), state("running", alive=False), "running", "running; nothing of it lives there now"),
        (brief("unknown"), state("ended", code=0), "unknown", "ended with code 0 on the box; `launcher pull` brings"),
        (brief("running"), state("held", why="SIGTERM"), "queued", "held (SIGTERM)"),
        (brief("running"), None, "running", None),  # it has just given a sign of life
        (brief("queued"), None, "unknown", "the box tells nothing of it"),
    ],
)
def test_the_box_is_a_second_opinion(told: Brief, seen: State | None, name: str, reason: str | None) -> None:
    found = boxes.judged(told, seen)
    assert found.state == name
    assert (found.reason or "").startswith(reason) if reason else found.reason is None


def test_status_asks_the_box_of_a_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answering(monkeypatch, state("running"))
    assert invoke(["status", RUN, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)[0]["state"] == "running"
    assert asked == [("box", [RUN])]


def test_a_box_that_does_not_answer_makes_nothing_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, error=DEAD)
    assert invoke(["status", RUN]) == 3
    told = capsys.readouterr()
    assert "unknown" in told.out and "failed" not in told.out
    assert "box can't be asked: there is no way to box.example.org" in told.err


def test_status_of_what_has_succeeded_asks_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    event(store, 1, "started", runner="1")
    event(store, 2, "ended", code=0, signal=None, reason=None)
    event(store, 3, "closed", missing=[])
    asked = answering(monkeypatch, error=DEAD)
    assert invoke(["status", RUN]) == 0
    assert asked == []


def test_status_of_a_box_needs_no_store(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAUNCHER_STORE", "s3://nowhere")
    answering(monkeypatch, state("running", attempt=2, gpus=("GPU-1",)))
    assert invoke(["status", "--on", "box"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [RUN, "running", "0.0s", "ago", "2", "GPU-1", "-"]
    assert invoke(["status", "--on", "box", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["phase"] == "running"
    assert invoke(["status", "--on", "box", "2027"]) == 2


def test_cancel_tells_the_box(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []

    def cancel(profile: Profile, runs: Sequence[str], **more: Any) -> tuple[State, ...]:
        told.append((profile.name, list(runs)))
        return (state("cancelled"),)

    monkeypatch.setattr("launcher.ssh.cancelling.cancel", cancel)
    assert invoke(["cancel", RUN]) == 0
    assert told == [("box", [RUN])]
    assert "cancelled" in capsys.readouterr().out


def test_cancel_of_a_box_that_does_not_answer_ends_nothing_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cancel(*args: Any, **more: Any) -> None:
        raise DEAD

    monkeypatch.setattr("launcher.ssh.cancelling.cancel", cancel)
    assert invoke(["cancel", RUN]) == 69
    told = capsys.readouterr()
    assert "runs on" in told.err and "nothing is known of it" in told.out


def test_a_run_of_no_box_is_told_as_such(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    other = "20260101-000001-b-abcdef"
    records.submit(store, {"run": other, "name": "b"})
    for verb in ("attach", "pull", "cancel"):
        assert invoke([verb, other]) == 2
        assert f"{other} was sent to no box" in capsys.readouterr().err


def test_a_machine_without_the_target_finds_the_box_by_its_host(home: Path, store: Store) -> None:
    for file in (home / "config" / "launcher" / "targets").iterdir():
        file.unlink()
    found = boxes.find(None, RUN)
    assert (found.profile.host, found.profile.shared) == ("box.example.org", "/root/.launcher")


def test_the_box_may_know_a_run_that_the_store_does_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, state("running"))
    found = boxes.find(None, "20260101", "box")
    assert (found.run, found.opened) == (RUN, None)


def test_resume_asks_where_it_was_before(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(run=RUN, name="a", lock="0" * 64, image="1" * 64, code="2" * 64, command="x", argv=("x",))
    store.put(keys.job(RUN), to_json(job))
    answering(monkeypatch, state("waiting", place=1))
    assert invoke(["resume", RUN]) == 69
    told = capsys.readouterr().err
    assert f"{RUN} goes on on box: waiting" in told and f"launcher attach {RUN}" in told
    answering(monkeypatch, error=DEAD)
    assert invoke(["resume", RUN]) == 69
    assert "when it has given no sign of life for 120 s it can be resumed" in capsys.readouterr().err


def follower(work: Callable[..., State]) -> Callable[..., State]:
    def follow(profile: Profile, run: str, **more: Any) -> State:
        return work(**more)

    return follow


def test_output_and_exit_code_of_a_run_are_this_commands(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def work(output: Any, tell: Any, **_: Any) -> State:
        tell(state("waiting", place=1))
        tell(state("waiting", place=1))
        tell(state("running", attempt=1))
        output(1, b"one\xff\n")
        output(2, b"two\n")
        tell(state("running", attempt=2, why="the box was restarted"))
        return state("ended", code=7)

    monkeypatch.setattr("launcher.ssh.following.follow", follower(work))
    assert attaching.attached(PROFILE, RUN, store) == 7
    told = capfdbinary.readouterr()
    assert told.out == b"one\xff\n"
    assert told.err.startswith(
        b"box: waits for a GPU, 1 run before it\ntwo\nbox: attempt 2 begins: the box was restarted\n"
    )
    assert invoke(["attach", RUN, "--json"]) == 7
    told = capfdbinary.readouterr()
    assert json.loads(told.out)["run"] == RUN
    assert b"one\xff\n" in told.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_letting_go_leaves_the_run_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    before = {one: signal.getsignal(one) for one in attaching.LETS_GO}
    unwound: list[str] = []

    def work(**_: Any) -> State:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            os.kill(os.getpid(), number)  # a second Ctrl-C while everything is let go of
            os.kill(os.getpid(), signal.SIGINT)
            unwound.append("all")
        raise AssertionError

    monkeypatch.setattr("launcher.ssh.following.follow", follower(work))
    try:
        assert attaching.attached(PROFILE, RUN, store) == code
        os.kill(os.getpid(), number)  # one that comes late, while the process ends
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert unwound == ["all"]
    told = capfd.readouterr().err
    assert f"{RUN} goes on on box; `launcher attach {RUN}" in told and f"`launcher cancel {RUN}" in told


def test_a_way_that_is_lost_for_good_is_another_code_than_a_command_that_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(**_: Any) -> State:
        raise DEAD

    monkeypatch.setattr("launcher.ssh.following.follow", follower(work))
    with pytest.raises(UnreachableError, match="what runs there goes on") as caught:
        attaching.attached(PROFILE, RUN, store)
    assert caught.value.exit_code == 75
    assert "launcher attach" in str(caught.value.problems[0].hint)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (state("ended", code=0), 0),
        (state("ended", code=137), 137),
        (state("cancelled"), 143),
        (state("ended", why="the image is gone"), 69),
    ],
)
def test_exit_codes(found: State, code: int) -> None:
    assert attaching.code(found) == code


def test_wait_on_a_box_ends_with_how_it_went(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launcher.ssh.following.follow", follower(lambda **_: state("ended", code=0)))
    assert invoke(["wait", RUN]) == 0
    monkeypatch.setattr("launcher.ssh.following.follow", follower(lambda **_: state("ended", code=1)))
    assert invoke(["wait", RUN]) == 1

    def work(**_: Any) -> State:
        signal.pause()
        raise AssertionError

    monkeypatch.setattr("launcher.ssh.following.follow", follower(work))
    assert invoke(["wait", RUN, "--timeout", "1s"]) == 3


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("(asleep)", "asleep"),
        ("with code 1 (it failed)", "with code 1 (it failed)"),
        ("", ""),
    ],
)
def test_only_parentheses_around_all_are_left_out(text: str, bare: str) -> None:
    assert box_status.bare(text) == bare


def test_show_says_which_box_it_was(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    event(store, 1, "host", facts={"node": "gpu-1", "engine": "docker 28.2", "cpu": "x"})
    assert invoke(["show", RUN]) == 0
    assert "box     box (gpu-1, docker 28.2)" in capsys.readouterr().out.splitlines()


def test_a_box_is_looked_at_before_anything_is_locked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def glance(*args: Any, **more: Any) -> Profile:
        raise DEAD

    monkeypatch.setattr("launcher.profiles.box_doctor.glance", glance)
    assert invoke(["run", str(home / "a.yaml"), "--on", "box"]) == 69
    assert "there is no way to box.example.org" in capsys.readouterr().err
    assert not (home / "a.lock").exists() and not (home / "store").exists()


@pytest.fixture
def load(store: Store, tmp_path: Path) -> tuple[launch.Load, launch.Way]:
    """A run that is about to be started: the store knows that it is queued."""
    job = Job(run=RUN, name="a", lock="0" * 64, image="1" * 64, code="2" * 64, command="x", argv=("x",))
    nothing: Any = None
    made = launch.Load(job=job, image=nothing, code=tmp_path, data={}, origins={}, facts=None)
    cache = Cache(tmp_path / "cache")
    same = {"shell": nothing, "opened": store, "access": nothing, "cache": cache, "progress": nothing}
    return made, launch.Way(profile=PROFILE, **same)


@pytest.mark.parametrize(
    ("answer", "named", "said"),
    [
        ((), "killed", "did not begin on box: it could not be started: no room"),
        ((state("ended", code=1, attempt=0),), "killed", "did not begin"),  # of an attempt before
        ((state("running", attempt=1),), "queued", "goes on on box; `launcher attach"),
        ((state("waiting"),), "queued", "goes on on box; `launcher attach"),
        (DEAD, "queued", "whether 20260101-000000-a-abcdef has begun on box nobody knows"),
    ],
)
def test_a_launch_that_fails_is_told_as_far_as_it_is_known(
    store: Store,
    load: tuple[launch.Load, launch.Way],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    answer: Any,
    named: str,
    said: str,
) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise TargetError("no room")

    monkeypatch.setattr("launcher.ssh.launching.launch", fail)
    error = answer if isinstance(answer, Exception) else None
    answering(monkeypatch, *(() if error else answer), error=error)
    with pytest.raises(TargetError, match="no room"):
        launch.launched(*load)
    assert records.load(store, RUN).state == named
    assert said in capfd.readouterr().err


def test_a_launch_that_is_interrupted_leaves_nothing_behind(
    store: Store,
    load: tuple[launch.Load, launch.Way],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def slow(*args: Any, **more: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    monkeypatch.setattr("launcher.ssh.launching.launch", slow)
    answering(monkeypatch)
    with pytest.raises(click.exceptions.Exit) as caught:
        launch.launched(*load)
    assert caught.value.exit_code == 143
    found = records.load(store, RUN)
    assert (found.state, found.reason) == ("killed", "it was interrupted before it had started")
    assert f"{RUN} did not begin on box" in capfd.readouterr().err


@pytest.mark.parametrize("moment", ["kept", "told", "followed"])
def test_once_it_has_started_ctrl_c_lets_go_at_any_moment(
    store: Store,
    load: tuple[launch.Load, launch.Way],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    moment: str,
) -> None:
    def pressed(at: str) -> Any:
        if at == moment:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()

    started = Launched(run=RUN, state=state("running"), tools="/tools", ship="relay", notes=())
    monkeypatch.setattr(launch, "launched", lambda load, way: started)
    monkeypatch.setattr(launch, "keep_named", lambda load, way: pressed("kept"))
    monkeypatch.setattr(launch, "tell", lambda *args: pressed("told"))
    monkeypatch.setattr("launcher.ssh.following.follow", follower(lambda **_: pressed("followed")))
    before = {one: signal.getsignal(one) for one in attaching.LETS_GO}
    try:
        assert launch.sent(*load, detach=False, as_json=False) == 130
        os.kill(os.getpid(), signal.SIGINT)  # one that comes late, while the process ends
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    told = capfd.readouterr().err
    assert told.count(f"{RUN} goes on on box; `launcher attach {RUN}") == 1


def test_a_resumed_run_shows_what_its_new_attempts_print() -> None:
    nothing: Any = None
    shown: list[bytes] = []
    for attempt in (1, 3):
        following = Following(nothing, RUN, 0, None, lambda _, data: shown.append(data), nothing, nothing)
        following.attempt = attempt
        for number in (1, 2, 3, 4):
            told = {"kind": "out", "s": 1, "a": number, "t": 0.0, "at": 10 * number}
            assert not following.take(told, f"{attempt}:{number}".encode())
        assert following.since == 40
    assert shown == [b"1:1", b"1:2", b"1:3", b"1:4", b"3:3", b"3:4"]


def test_launchers_own_lines_begin_at_their_own(capfd: pytest.CaptureFixture[str]) -> None:
    screen = attaching.Screen(PROFILE, as_json=True, fresh=False)  # what the command prints goes to stderr
    screen.output(1, b"half")
    screen.note("a note")
    screen.output(1, b"whole\n")
    screen.note("another")
    screen.output(1, b"half")
    screen.end_line()
    screen.end_line()
    assert capfd.readouterr().err == "half\nnote: a note\nwhole\nnote: another\nhalf\n"


def test_a_stdout_that_goes_elsewhere_gets_the_commands_bytes_alone(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    screen = attaching.Screen(PROFILE, as_json=False, fresh=False)
    screen.output(1, b"half")
    screen.end_line()
    assert capfdbinary.readouterr() == (b"half", b"")


def test_a_stdout_that_is_closed_hinders_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.ssh.following.follow", follower(lambda **_: state("ended", code=7)))
    monkeypatch.setattr("sys.stdout", None)
    attaching.Screen(PROFILE, as_json=False, fresh=False).output(1, b"x")
    assert invoke(["attach", RUN]) == 7


def test_a_run_that_was_pulled_to_another_store_has_no_job_there(tmp_path: Path) -> None:
    opened = stores.open(str(tmp_path / "store"))
    opened.put(keys.record(RUN), b"{}")
    with pytest.raises(StoreError, match=f"the job of {RUN} is not in") as raised:
        recorded(opened, RUN)
    assert raised.value.problems[0].hint == "name its store by --store"
