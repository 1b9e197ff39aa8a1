"""Relaying from a box's own store to the real one: two folders, the stream program as a process, cuts anywhere."""

from __future__ import annotations

import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from launcher.remote.model import Stream
from launcher.runner import claims, sealed
from launcher.runner.clock import stamp
from launcher.ssh.door import Door
from launcher.ssh.following import follow
from launcher.ssh.listening import LostError
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
            raise TargetError("the way to box was lost: it was cut")
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
