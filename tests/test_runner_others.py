"""What other nodes of an attempt print: whole records, each once, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.runner import others
from launcher.runner.attempt import Attempt
from launcher.runner.others import Gathering, Left
from launcher.runner.spool import Chunk, Spool

HEAD = b"2026-01-01T00:00:00.000000Z stdout "


def attempt_of(folder: Path, rank: int, number: int = 1) -> Attempt:
    told = {"version": 1, "job": {"run": "r", "argv": ["x"]}, "attempt": number, "store": "file:///s"}
    return Attempt({**told, "environment": {"NODE_RANK": str(rank)}}, str(folder))


def test_records_are_taken_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    (tmp_path / others.FOLDER).mkdir()
    chunks: list[Chunk] = []
    gathering = Gathering(Spool(str(tmp_path / "spool"), 2.0, chunks.append), attempt_of(tmp_path, 0))
    left = Left(attempt_of(tmp_path, 1))
    left.add(HEAD + b"F one\n" + HEAD + b"P 10%\n" + HEAD[:5], 0)
    Left(attempt_of(tmp_path, 1, number=2)).add(HEAD + b"F of another attempt\n", 0)
    gathering.tick(10)
    left.add(HEAD[5:] + b"F a b\n", 0)
    gathering.tick(10.5)
    gathering.look(11)
    gathering.spool.rotate()
    wanted = [b"F [node 1] one\n", b"F [node 1] 10%\n", b"F [node 1] a b\n"]
    assert b"".join(chunk.read() for chunk in chunks) == b"".join(HEAD + one for one in wanted)


def test_no_node_fills_the_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / others.FOLDER).mkdir()
    monkeypatch.setattr(others, "MOST_BYTES", 100)
    left = Left(attempt_of(tmp_path, 1))
    for _ in range(10):
        left.add(HEAD + b"F x\n", 0)
    assert (tmp_path / others.FOLDER / "1.1").stat().st_size <= 100


def test_a_folder_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    Left(attempt_of(tmp_path, 1)).add(HEAD + b"F x\n", 0)
    spool = Spool(str(tmp_path / "spool"), 2.0, lambda chunk: None)
    Gathering(spool, attempt_of(tmp_path, 0)).tick(10)
    assert not spool.size
