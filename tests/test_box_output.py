"""The frames of a box's output, and who holds a run there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.box import output, state
from launcher.box.model import State
from launcher.box.output import Capture, Writer


def test_frames_come_back_from_any_place(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Writer(path) as writer:
        for stream, data in ((1, b"one\n"), (2, b'{"s":1}\n'), (1, b"\x00\xff")):
            writer.write(stream, 1, data)
        writer.write(1, 2, b"two\n")
    frames = list(output.read(path))
    assert [(one.stream, one.attempt, one.data) for one in frames] == [
        (1, 1, b"one\n"),
        (2, 1, b'{"s":1}\n'),
        (1, 1, b"\x00\xff"),
        (1, 2, b"two\n"),
    ]
    assert [one.data for one in output.read(path, frames[1].next)] == [b"\x00\xff", b"two\n"]
    assert list(output.read(path, frames[-1].next)) == []
    assert output.printed(path, 1) == {1: 6, 2: 8}
    with pytest.raises(ValueError, match="no frame at 3"):
        list(output.read(path, 3))


def test_a_torn_frame_is_waited_behind_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Writer(path) as writer:
        writer.write(1, 1, b"whole\n")
    whole = path.stat().st_size
    for torn in (b'{"s":1,"a"', output.framed(1, 1, b"lost")[:-1]):
        path.write_bytes(path.read_bytes()[:whole] + torn)
        assert [one.data for one in output.read(path)] == [b"whole\n"]
        assert output.end(path) == whole
    with Writer(path) as writer:
        writer.write(2, 2, b"on\n")
    assert [one.data for one in output.read(path)] == [b"whole\n", b"on\n"]


def test_a_box_keeps_only_so_much(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", most=100) as writer:
        for _ in range(5):
            writer.write(1, 1, b"x" * 40)
    frames = list(output.read(tmp_path / "out"))
    assert [one.stream for one in frames] == [1, 0]
    assert b"launcher logs" in frames[-1].data


def test_what_children_print_becomes_frames(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Writer(tmp_path / "out") as writer, Capture(writer, 3):
        subprocess.run([sys.executable, "-c", "import os; os.write(1, b'a'); os.write(2, b'b')"], check=True)
    os.write(1, b"ours again")
    assert {(one.stream, one.data, one.attempt) for one in output.read(tmp_path / "out")} == {
        (1, b"a", 3),
        (2, b"b", 3),
    }
    assert capfd.readouterr().out == "ours again"


def test_one_holds_a_run(tmp_path: Path) -> None:
    assert not state.is_alive(tmp_path)
    with state.held(tmp_path) as mine:
        assert mine
        assert state.is_alive(tmp_path)
        assert state.holder(tmp_path) == os.getpid()
        with state.held(tmp_path) as second:
            assert not second
    assert state.holder(tmp_path) is None


def test_a_state_comes_back_with_who_lives(tmp_path: Path) -> None:
    told = State(run="r", phase="running", when="2026-01-01T00:00:00Z", attempt=2, gpus=("GPU-1",), node="box")
    state.write(tmp_path, told)
    assert state.read(tmp_path) == told
    with state.held(tmp_path):
        assert state.read(tmp_path).alive
