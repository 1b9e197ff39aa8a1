"""A box is somebody else's machine: what it sends writes nothing but its own run, whatever it claims."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.box.frames import Told
from launcher.box.stock import RANKS, rank
from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import StoreError, TargetError
from launcher.progress import SILENT
from launcher.remote.agent import error_from
from launcher.runner import sealed
from launcher.ssh.admitting import is_made_there
from launcher.ssh.door import heard
from launcher.ssh.knowledge import Knowledge
from launcher.ssh.pushing import needed
from launcher.ssh.relaying import Relay
from launcher.ssh.taking import Taking
from launcher.store import keys
from launcher.store.objects import Store

RUN, OTHER = "20261121-120000-mine-abcd", "20261121-120000-other-abcd"
SHA256 = sha256_bytes(b"x")
GATE, CONTENT, MANIFEST, EVENT, HEARTBEAT, RECORD = range(len(RANKS))
Frame = tuple[Told, bytes]


@pytest.fixture
def real(tmp_path: Path) -> Store:
    """Return a store with two runs, of which a box has one."""
    opened = stores.open(str(tmp_path / "real"))
    for run in (RUN, OTHER):
        told = {"kind": "queued", "time": "2026-11-21T12:00:00.000000Z", "attempt": 1, "seq": 0}
        opened.create(keys.job(run), json.dumps({"run": run}).encode())
        opened.create(keys.event(run, 1, 0), json.dumps(told).encode())
        opened.create(keys.log(run, 1, 0), b"a line\n")
        opened.create(keys.blob(run, SHA256), b"x")
    return opened


def whole(key: str, data: bytes, rank: Any, **more: Any) -> Frame:
    facts = {"kind": "object", "n": len(data), "at": 0, "last": True, "size": len(data), "sha256": sha256_bytes(data)}
    return {**facts, "key": key, "rank": rank, **more}, data


def pieces(key: str, data: bytes, rank: int) -> list[Frame]:
    """Return an object in two frames: as big ones go."""
    first, _ = whole(key, b"", rank, last=False, sha256=None)
    return [(first, data[:1]), (whole(key, data, rank, at=1)[0], data[1:])]


def take(real: Store, tmp_path: Path, frames: list[Frame]) -> None:
    relay = Relay(real, RUN, Cache(tmp_path / "cache"))
    relay.folder.mkdir(parents=True)
    relay.known.load()
    end: Frame = ({"kind": "end", "n": 0, "over": False, "offered": len(frames), "foreign": None}, b"")

    def heard() -> Iterator[Frame]:
        yield from [*frames, end]

    Taking(relay, SILENT).work(heard())


def files(top: Path) -> dict[str, bytes]:
    every = {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in every.items() if "cache/" not in name}


ANOTHERS = [
    keys.record(OTHER),
    keys.log(OTHER, 1, 0),
    keys.job(OTHER),
    keys.artifact(SHA256),
    keys.lock(SHA256),
    keys.journal("2026-11-21T12:00:00.000000Z", 1, OTHER),
    "snapshots/20261121T120000Z.json",
    keys.job(RUN),
    keys.target(RUN, 1),
    keys.run(RUN) + "logs/../../" + OTHER + "/record.json",
    keys.run(RUN) + "outputs/0001/files/../../../../../gone",
    keys.run(RUN) + "outputs/0001/files/a//b",
    keys.run(RUN) + "outputs/0001/files/a\\b",
    keys.run(RUN) + "outputs/0001/files/a\nb",
    keys.run(RUN) + "blobs/sha256/aa/../" + SHA256,
    keys.run(RUN) + "logs/0001/00000001#1",
    keys.run(RUN),
    "/etc/hostname",
    "../outside",
]


@pytest.mark.parametrize("key", ANOTHERS)
@pytest.mark.parametrize("place", [GATE, CONTENT, HEARTBEAT, RECORD])
def test_a_box_writes_nothing_but_its_run(real: Store, tmp_path: Path, key: str, place: int) -> None:
    before = files(tmp_path)
    for frames in ([whole(key, b"{}", place)], pieces(key, b"{}", place)):
        with pytest.raises(StoreError, match="not taken from it"):
            take(real, tmp_path / str(len(frames)), frames)
    assert files(tmp_path) == before


def test_what_is_there_stays_and_a_blob_is_what_it_is_called(real: Store, tmp_path: Path) -> None:
    before = files(tmp_path)
    take(real, tmp_path / "1", pieces(keys.log(RUN, 1, 0), b"another line\n", CONTENT))
    other = keys.blob(RUN, sha256_bytes(b"z"))
    for frames in ([whole(other, b"not z", CONTENT)], pieces(other, b"not z", CONTENT)):
        with pytest.raises(StoreError, match="not taken"):
            take(real, tmp_path / f"3-{len(frames)}", frames)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "frames",
    [
        [whole(keys.log(RUN, 1, 1), b"", CONTENT), whole(keys.event(RUN, 2, 0), b"{}", GATE)],
        [whole(keys.heartbeat(RUN, 1), b"{}", CONTENT)],
        [whole(keys.log(RUN, 1, 1), b"x", HEARTBEAT)],
        [whole(keys.log(RUN, 1, 1), b"x", CONTENT, last=False, at=1 << 60)],
        [whole(keys.event(RUN, 1, 1), b"\xff", EVENT)],
        [whole(keys.event(RUN, 1, 1), b"[]", EVENT)],
        [whole(keys.event(RUN, 1, 1), b"[" * 100_000, EVENT)],
        [whole(keys.event(RUN, 1, 1), b'{"kind": "ended", "attempt": 7, "seq": 1}', EVENT)],
        [whole(keys.claim(RUN, 1), b'{"epoch": 1, "attempt": "x"}', GATE)],
        [whole(keys.log(RUN, 1, 1), b"x", None)],
        [whole(keys.log(RUN, 1, 1), b"x", CONTENT, at="0")],
        [({"kind": "object", "n": 0}, b"")],
        [({"kind": "object", "n": 0, "key": 7, "rank": 1}, b"")],
        [({"kind": "gone", "n": 0, "keys": [[]], "claims": {}}, b"")],
    ],
)
def test_what_is_no_object_is_refused_and_breaks_nothing(real: Store, tmp_path: Path, frames: list[Frame]) -> None:
    with pytest.raises(StoreError, match="not taken from it"):
        take(real, tmp_path, frames)
    assert {entry.key for entry in real.list(keys.events(RUN))} == {keys.event(RUN, 1, 0)}
    Knowledge(real, RUN).load()


def test_a_box_that_forgets_deletes_nothing_of_others(real: Store, tmp_path: Path) -> None:
    before = files(tmp_path)
    away = [f"blobs/../../{OTHER}/record.json", f"blobs/../../{OTHER}/job.json", f"../{OTHER}/logs/0001/00000000"]
    take(real, tmp_path, [({"kind": "gone", "n": 0, "keys": away, "claims": {}}, b"")])
    assert files(tmp_path) == before


def test_a_manifest_that_names_a_path_of_this_machine_brings_it_nowhere(real: Store, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("a private key")
    real.create(keys.claim(RUN, 1), sealed.sealed({"epoch": 1, "attempt": 1, "owner": "x", "inherits": []}))
    line = {"path": "a", "size": 13, "sha256": "../../../../../../id", "mode": "0644"}
    told = {"name": "step-1", "seq": 1, "attempt": 1, "bytes": 13, "files": [line]}
    real.create(keys.checkpoint(RUN, 1, 1), sealed.sealed(told))
    known = Knowledge(real, RUN)
    known.load()
    with pytest.raises(StoreError, match="names what the store doesn't have"):
        needed(real, RUN, known)


@pytest.mark.parametrize(
    "key",
    [
        keys.record(RUN),
        keys.claim(RUN, 3),
        keys.inherited(RUN, 3),
        keys.event(RUN, 12345, 7),
        keys.log(RUN, 1, 0),
        keys.metric(RUN, 1, 0),
        keys.heartbeat(RUN, 1),
        keys.blob(RUN, SHA256),
        keys.blob(RUN, SHA256, "2-1"),
        keys.checkpoint(RUN, 1, 2),
        keys.output_manifest(RUN, 1),
        keys.output(RUN, 1, "manifest.json"),
        keys.output(RUN, 1, "a b/ü $x'\"/..x/\udcff\n:*%"),
        keys.output(RUN, 1, "..."),
    ],
)
def test_all_that_a_runner_makes_is_taken(key: str) -> None:
    own = key.removeprefix(keys.run(RUN))
    assert is_made_there(own) and rank(own) in range(len(RANKS))


STATE = {"run": RUN, "phase": "running", "when": "2026-11-21T12:00:00Z"}


@pytest.mark.parametrize(
    "told",
    [None, [], {}, {**STATE, "code": "0"}, {**STATE, "gpus": 7}, {**STATE, "why": 1}, {**STATE, "attempt": True}],
)
def test_a_state_that_is_none_is_said_to_be_none(told: Any) -> None:
    with pytest.raises(TargetError, match="can't be read"):
        heard(told, "box")


def test_a_state_gives_no_orders_to_a_terminal() -> None:
    found = heard({**STATE, "why": "\x1b]0;title\x07gone\r", "node": "\x9b2J"}, "box")
    assert found.why.isprintable() and found.node.isprintable() and "gone" in found.why


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"kind": "TargetError"},
        {"kind": "TargetError", "problems": [1]},
        {"kind": "dataclass", "problems": [{"message": "x", "hint": None, "where": None}]},
        {"kind": "StoreError", "problems": []},
    ],
)
def test_an_error_that_is_none_is_one_all_the_same(told: Any) -> None:
    assert str(error_from(told))
