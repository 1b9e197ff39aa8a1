"""Relaying from a box's own store to the real one: two folders, the stream program as a process, cuts anywhere."""

from __future__ import annotations

import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.box import output, state
from launcher.box.frames import MARK, Reader
from launcher.box.lineage import Line, foreign_from, shared
from launcher.box.model import Order, State
from launcher.box.stock import Known, packed, ranges
from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import TargetError
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.remote.here import Here
from launcher.remote.host import LostWayError
from launcher.remote.model import Stream
from launcher.runner import claims, sealed
from launcher.runner.clock import stamp
from launcher.ssh.door import Door
from launcher.ssh.following import follow
from launcher.ssh.relaying import Relay
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.objects import Store

RUN = "20261121-120000-relay-abcd"


class Cutting(Here):
    """This machine, over a line that is cut after some bytes of each stream."""

    def __init__(self) -> None:
        super().__init__()
        self.cuts: list[int] = []
        self.came = 0

    @contextmanager
    def stream(self, argv: Sequence[str], *, stdin: bytes = b"", hold: bool = False) -> Iterator[Stream]:
        with super().stream(argv, stdin=stdin, hold=hold) as inner:
            yield Cut(self, inner, self.cuts.pop(0) if self.cuts else None)


class Cut:
    def __init__(self, shell: Cutting, inner: Stream, left: int | None) -> None:
        self.shell, self.inner, self.left = shell, inner, left

    def read(self, size: int) -> bytes:
        piece = self.inner.read(size)
        if self.left is not None:
            piece, self.left = piece[: self.left], self.left - len(piece[: self.left])
        self.shell.came += len(piece)
        return piece

    def code(self) -> int:
        if self.left is not None and self.left == 0:
            raise LostWayError("the way to box was lost: it was cut")
        return self.inner.code()

    def said(self) -> bytes:
        return self.inner.said()


class Box:
    """A box's folder, with a run in it whose objects a test writes as a runner would."""

    def __init__(self, folder: Path, real: Store) -> None:
        self.profile = Profile(name="box", kind="ssh", host="box.example.org", shared=str(folder), runtime="sandbox")
        self.shared, self.real = folder, real
        self.store = stores.open(Places(str(folder)).store())
        self.run = state.folder(str(folder), RUN)
        self.run.mkdir(parents=True)
        self.order()
        self.epoch, self.seqs, self.kept = 0, dict[int, int](), list[tuple[str, dict[str, Any]]]()

    def order(self) -> None:
        told = Order(
            run=RUN,
            job={"run": RUN},
            attempt=1,
            tools="/nowhere",
            profile=self.profile,
            store=Access(Places(str(self.shared)).store()),
            ship="relay",
            image="0" * 64,
        )
        (self.run / state.ORDER).write_text(json.dumps(told.to_json()))

    def stand(self, phase: Any, code: int | None = None) -> None:
        state.write(self.run, State(run=RUN, phase=phase, when=stamp(), attempt=1, code=code))

    def queue(self, attempt: int) -> None:
        told = {"kind": "queued", "time": stamp(), "attempt": attempt, "seq": 0}
        self.store.put(keys.journal(stamp(), attempt, RUN), b"")
        self.store.create(keys.event(RUN, attempt, 0), json.dumps(told).encode())

    def event(self, attempt: int, kind: str, **facts: Any) -> None:
        seq = self.seqs[attempt] = self.seqs.get(attempt, 0) + 1
        told = {"kind": kind, "time": stamp(), "attempt": attempt, "seq": seq, **facts}
        self.store.create(keys.event(RUN, attempt, seq), json.dumps(told).encode())

    def claim(self, attempt: int) -> None:
        self.epoch += 1
        told = {
            "epoch": self.epoch,
            "attempt": attempt,
            "owner": f"{self.shared}",
            "inherits": [k for k, _ in self.kept],
        }
        self.store.create(keys.claim(RUN, self.epoch), sealed.sealed({**told, "host": "box", "time": stamp()}))

    def log(self, attempt: int, seq: int) -> None:
        self.store.put(keys.log(RUN, attempt, seq), f"line {seq}\n".encode() * 20)

    def checkpoint(self, attempt: int, seq: int, sizes: Sequence[int], keep: int = 2) -> None:
        """Write a checkpoint as a runner does, and forget those that are too old."""
        lines = []
        for number, size in enumerate(sizes):
            data = random.Random(f"{attempt} {seq} {number}").randbytes(size)
            sha256 = sha256_bytes(data)
            self.store.put(keys.blob(RUN, sha256), data)
            lines.append({"path": f"part-{number}", "size": size, "sha256": sha256, "mode": "0644"})
        told = {"name": f"step-{seq}", "seq": seq, "attempt": attempt, "bytes": sum(sizes), "files": lines}
        key = keys.checkpoint(RUN, attempt, seq)
        self.store.create(key, sealed.sealed(told))
        self.event(attempt, "checkpoint", key=key, name=told["name"], number=seq)
        self.kept.append((key, told))
        while len(self.kept) > keep:
            old, manifest = self.kept.pop(0)
            self.event(attempt, "forgotten", key=old, name=manifest["name"])
            self.store.delete(old)
            self.store.delete_many([keys.blob_of(RUN, line) for line in manifest["files"]])

    def output(self, attempt: int, names: dict[str, bytes]) -> None:
        for name, data in names.items():
            self.store.put(keys.output(RUN, attempt, name), data)
        files = [{"path": name, "size": len(data), "sha256": sha256_bytes(data)} for name, data in names.items()]
        self.store.create(keys.output_manifest(RUN, attempt), json.dumps({"files": files}).encode())

    def end(self, attempt: int) -> None:
        self.event(attempt, "ended", code=0)
        self.store.create(
            keys.record(RUN), json.dumps({"run": RUN, "checkpoints": [{"key": k} for k, _ in self.kept]}).encode()
        )
        self.stand("ended", code=0)

    def door(self, tools: Path, shell: Here | None = None) -> Door:
        return Door(shell=shell or Here(), profile=self.profile, tools=str(tools))


def contents(store: Store) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for entry in store.list(keys.run(RUN))}


def judge(real: Store) -> None:
    """Hold that the real store shows nothing half: whatever is named is there, and events have no gap."""
    there = contents(real)
    for key, data in there.items():
        if "/checkpoints/" in key:
            told = sealed.unsealed(data)
            for line in told["files"]:
                blob = there[keys.blob_of(RUN, line)]
                assert sha256_bytes(blob) == line["sha256"]
        elif key.endswith("/manifest.json"):
            attempt = int(key.split("/")[3])
            for line in json.loads(data)["files"]:
                assert sha256_bytes(there[keys.output(RUN, attempt, line["path"])]) == line["sha256"]
    for attempt in {keys.numbers(key)[0] for key in there if "/events/" in key}:
        seqs = sorted(keys.numbers(key)[1] for key in there if key.startswith(keys.events(RUN, attempt)))
        assert seqs == list(range(len(seqs)))
    if keys.record(RUN) in there:
        for checkpoint in json.loads(there[keys.record(RUN)])["checkpoints"]:
            assert checkpoint["key"] in there


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a Python that has this launcher, as launcher's tools on a box."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    root = Path(__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(root)!r})"
    (folder / "sitecustomize.py").write_text(code)
    python.write_text(f'#!/bin/sh\nshift\nexec env PYTHONPATH="{root}" "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def real(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "real"))


@pytest.fixture
def box(tmp_path: Path, real: Store) -> Box:
    """Return a box with a run whose first attempt was queued in both stores."""
    found = Box(tmp_path / "box with $pace", real)
    launched(found, real)
    return found


def launched(box: Box, real: Store) -> None:
    if not real.exists(keys.event(RUN, 1, 0)):
        told = {"kind": "queued", "time": stamp(), "attempt": 1, "seq": 0, "who": "ada"}
        real.create(keys.job(RUN), json.dumps({"run": RUN}).encode())
        real.create(keys.event(RUN, 1, 0), json.dumps(told).encode())
    for key in (keys.job(RUN), keys.event(RUN, 1, 0)):
        box.store.create(key, real.get(key))
    box.stand("running")


def relay(real: Store, tmp_path: Path) -> Relay:
    return Relay(real, RUN, Cache(tmp_path / "cache"))


def test_a_round_brings_everything_and_the_next_one_nothing(box: Box, real: Store, tools: Path, tmp_path: Path) -> None:
    box.event(1, "started")
    box.claim(1)
    box.log(1, 0)
    box.checkpoint(1, 0, [10, 300_000, 700_000])
    box.output(1, {"a b/ü": b"x" * 10, "big": b"y" * 600_000})
    box.store.put(keys.heartbeat(RUN, 1), b"{}")
    box.end(1)
    relayed = relay(real, tmp_path)
    assert relayed.round(box.door(tools)).objects > 8
    judge(real)
    assert contents(real) == contents(box.store)
    last = relayed.round(box.door(tools))
    assert last.complete and not last.objects
    assert (box.run / "relayed").exists()


def test_what_one_side_knows_travels_in_few_bytes() -> None:
    every = [f"events/0001/{n:08d}.json" for n in range(5000) if n != 17] + ["checkpoints/0001-00000001/manifest.json"]
    told = packed(every)
    assert len(json.dumps(told)) < 200
    known = Known(json.loads(json.dumps(told)))
    assert all(key in known for key in every)
    assert "events/0001/00000017.json" not in known and "logs/0001/00000001" not in known
    assert ranges([3, 1, 2, 7]) == [[1, 3], [7, 7]]


def line(queued: dict[int, str], claimed: dict[int, tuple[int, str]] | None = None) -> Line:
    return Line(queued=queued, claims=claimed or {}, begun=frozenset(queued))


@pytest.mark.parametrize(
    ("box", "real", "foreign", "ours"),
    [
        (line({1: "a"}), line({1: "a"}), None, {1}),
        (line({1: "a", 2: "b"}), line({1: "a"}), None, {1, 2}),  # the box goes on by itself
        (line({1: "a", 2: "b"}), line({1: "a", 2: "x"}), 2, {1}),  # both went on
        (line({1: "a", 2: "b", 3: "c"}), line({1: "a", 2: "x"}), 2, {1}),
        (line({1: "a"}), line({1: "a", 2: "x"}), None, {1}),  # what comes late of an attempt that is known
        (line({1: "a", 2: "b"}, {1: (1, "p"), 2: (2, "q")}), line({1: "a"}, {1: (1, "p"), 2: (2, "z")}), 2, {1}),
        (line({1: "a", 3: "c"}), line({1: "a", 2: "x"}), 3, {1}),
        (line({1: "a", 2: "b"}, {1: (1, "p")}), line({1: "a"}, {1: (1, "p"), 2: (2, "z")}), 2, {1}),
    ],
)
def test_which_attempts_two_sides_have_in_common(box: Line, real: Line, foreign: int | None, ours: set[int]) -> None:
    assert foreign_from(box, real) == foreign
    assert shared(box, real) == ours


def test_an_attempt_that_has_only_been_queued_stays_on_the_box() -> None:
    box = Line(queued={1: "a", 2: "b"}, begun=frozenset({1}))
    assert shared(box, line({1: "a"})) == {1}


def test_frames_come_apart_in_any_pieces() -> None:
    data = b"welcome to the box\n" + MARK + b'{"kind":"out","n":5}\nhello{"kind":"end","n":0}\n'
    for size in range(1, 40):
        pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
        frames = list(Reader(lambda pieces=pieces: next(pieces, b"")).frames())  # type: ignore[misc]
        assert [(told["kind"], payload) for told, payload in frames] == [("out", b"hello"), ("end", b"")]


def test_the_store_is_consistent_wherever_a_line_is_cut(box: Box, real: Store, tools: Path, tmp_path: Path) -> None:
    """A run goes on while rounds are cut at random bytes; whoever looks at the store sees nothing half, ever."""
    chance, shell = random.Random(4), Cutting()
    box.claim(1)
    box.event(1, "started")
    for step in range(9):
        box.log(1, step)
        box.checkpoint(1, step, [chance.randrange(1, 900), chance.randrange(300_000, 600_000)])
        shell.cuts.append(chance.randrange(0, 700_000))
        with suppress(LostWayError):
            relay(real, tmp_path).round(box.door(tools, shell))
        judge(real)
    box.end(1)
    while not relay(real, tmp_path).round(box.door(tools, shell)).complete:
        judge(real)
    judge(real)
    assert contents(real) == contents(box.store)


def test_a_cut_object_goes_on_at_its_last_byte(box: Box, real: Store, tools: Path, tmp_path: Path) -> None:
    shell = Cutting()
    size = 6_000_000
    box.checkpoint(1, 0, [size])
    shell.cuts += [1_000_000, 2_500_000, 1_300_000]
    for _ in range(3):
        with pytest.raises(LostWayError):
            relay(real, tmp_path).round(box.door(tools, shell))
    before = shell.came
    relay(real, tmp_path).round(box.door(tools, shell))
    judge(real)
    assert contents(real).keys() == contents(box.store).keys()
    assert shell.came - before < size - 4_000_000 and shell.came < size + 1_500_000


def test_what_a_run_forgets_is_forgotten_once_something_newer_is_safe(
    box: Box, real: Store, tools: Path, tmp_path: Path
) -> None:
    relayed = relay(real, tmp_path)
    box.claim(1)
    for step in range(3):
        box.checkpoint(1, step, [100, 200], keep=9)
        relayed.round(box.door(tools))
    assert len(claims.counting(real, RUN)) == 3
    box.checkpoint(1, 3, [100, 200], keep=2)
    relayed.round(box.door(tools))
    assert contents(real) == contents(box.store)
    # another machine has the run now, and needs what this box forgets
    box.real.create(keys.claim(RUN, 2), sealed.sealed({"epoch": 2, "attempt": 2, "owner": "x", "inherits": None}))
    there = claims.counting(real, RUN)
    box.checkpoint(1, 4, [100, 200], keep=1)
    relayed.round(box.door(tools))
    judge(real)
    assert set(there) <= set(contents(real))
    newest = claims.highest(box.store, RUN)  # the runner there sees it, and ends
    assert newest is not None and newest["attempt"] == 2
    box.checkpoint(1, 5, [100, 200], keep=1)
    relayed.round(box.door(tools))
    assert set(there) <= set(contents(real))


def test_two_boxes_that_went_on_by_themselves_never_mix(box: Box, real: Store, tools: Path, tmp_path: Path) -> None:
    other = Box(tmp_path / "other", real)
    launched(other, real)
    for number, one in enumerate((box, other)):
        one.claim(1) if not number else one.store.create(keys.claim(RUN, 1), box.store.get(keys.claim(RUN, 1)))
        one.epoch = 1
        one.queue(2)
        one.event(2, "started", host=str(number))
        one.claim(2)
        one.store.put(keys.log(RUN, 2, number), f"of {number}".encode())
        one.checkpoint(2, 0, [1000 + number])
        one.event(2, "ended", code=number)
        one.queue(3)
        one.event(3, "started")
        one.claim(3)
    first = relay(real, tmp_path / "here")
    assert first.round(box.door(tools)).foreign is None
    before = contents(real)
    late = relay(real, tmp_path / "there")
    assert late.round(other.door(tools)).foreign == 2
    assert contents(real) == before
    judge(real)
    assert not late.round(other.door(tools)).complete
    assert len(real.list("journal/")) == 2
    # nor when it lost in the moment between the look and the write
    early = relay(real, tmp_path / "early")
    early.known.load = lambda whole=False: None  # type: ignore[method-assign]
    early.known.keys = {"job.json", "events/0001/00000000.json"}
    early.known.queued = {1: sha256_bytes(real.get(keys.event(RUN, 1, 0)))}
    assert early.round(other.door(tools)).foreign == 2
    assert contents(real) == before


class Hearing:
    """What somebody who follows was told, and when."""

    def __init__(self) -> None:
        self.data: dict[int, bytearray] = {1: bytearray(), 2: bytearray(), 0: bytearray()}
        self.at: list[float] = []
        self.states: list[State] = []
        self.notes: list[str] = []

    def output(self, stream: int, data: bytes) -> None:
        self.data[stream] += data
        self.at.append(time.monotonic())


def test_following_comes_through_cuts_at_the_right_byte_and_relays(
    box: Box, real: Store, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    for where in ("following", "courier"):
        monkeypatch.setattr(f"launcher.ssh.{where}.FIRST_PAUSE_S", 0.05)
    shell, heard, wrote = Cutting(), Hearing(), bytearray()
    shell.cuts = [random.Random(7).randrange(200, 4000) for _ in range(6)]

    def work() -> None:
        with output.Writer(box.run / output.NAME) as out:
            box.claim(1)
            for step in range(60):
                text = f"step {step} of it\n".encode()
                out.write(1 + step % 2, 1, text)
                wrote.extend(text)
                box.log(1, step)
                if step % 20 == 0:
                    box.checkpoint(1, step, [500, 5000])
                time.sleep(0.01)
        box.end(1)

    worker = threading.Thread(target=work)
    worker.start()
    found = follow(
        box.profile,
        RUN,
        tools=str(tools),
        opened=real,
        output=heard.output,
        tell=heard.states.append,
        note=heard.notes.append,
        shell=shell,
    )
    worker.join()
    assert found.over and found.code == 0
    assert sorted(bytes(heard.data[1] + heard.data[2]).splitlines()) == sorted(bytes(wrote).splitlines())
    assert any("lost" in note for note in heard.notes) and not shell.cuts
    judge(real)
    assert contents(real) == contents(box.store)
    assert (box.run / "relayed").exists()


def test_a_line_of_output_comes_at_once(box: Box, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an idle machine it takes 30 to 50 ms; what is asserted leaves room for a busy one, and none for a pause."""
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    heard, went = Hearing(), list[float]()

    def work() -> None:
        with output.Writer(box.run / output.NAME) as out:
            while not heard.states:
                time.sleep(0.01)
            for step in range(12):
                time.sleep(0.05)
                went.append(time.monotonic())
                out.write(1, 1, f"{step}\n".encode())
                while len(heard.at) < len(went):
                    time.sleep(0.002)
        box.stand("ended", code=3)

    worker = threading.Thread(target=work)
    worker.start()
    arguments: dict[str, Any] = {"output": heard.output, "tell": heard.states.append, "shell": Here()}
    found = follow(box.profile, RUN, tools=str(tools), opened=None, **arguments)
    worker.join()
    assert found.code == 3
    assert sorted(came - gone for gone, came in zip(went, heard.at, strict=True))[3] < 0.5


def test_a_run_that_is_not_there_is_said_at_once(box: Box, tools: Path) -> None:
    shutil.rmtree(box.run)
    arguments: dict[str, Any] = {"output": lambda *_: None, "tell": lambda _: None, "shell": Here()}
    with pytest.raises(TargetError, match=r"no run|no order"):
        follow(box.profile, RUN, tools=str(tools), opened=None, **arguments)
