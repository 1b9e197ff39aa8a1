"""Progress: bars for terminals, lines for pipes, nothing when quiet."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from rich.console import Console

from launcher.cli.progress import LineProgress, RichProgress, amount, choose_progress, speed
from launcher.progress import SILENT


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def test_a_pipe_gets_notes_only(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    with progress.task("fetch", total=10) as task:
        task.advance(10)
        progress.note("one source lied")
    assert capsys.readouterr().err == "one source lied\n"


def test_a_terminal_gets_bars_that_go_away() -> None:
    console = terminal()
    progress = RichProgress(console)
    with progress.task("fetch [a]", total=10_000_000) as task:
        task.advance(5_000_000)
        progress.note("by [the] way")
        assert progress.bars is not None
        progress.bars.refresh()
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "fetch [a]" in drawn
    assert "5.0/10.0 MB" in drawn
    assert "by [the] way" in drawn
    assert progress.bars is None


def test_bytes_are_told_with_their_speed() -> None:
    row = SimpleNamespace(fields={"unit": "bytes"}, speed=12_345_678.0)
    assert speed(row) == ", 12.3 MB/s"
    assert speed(SimpleNamespace(fields={"unit": "bytes"}, speed=None)) == ""
    assert speed(SimpleNamespace(fields={"unit": "files"}, speed=5.0)) == ""


def test_the_display_ends_after_an_error_too() -> None:
    progress = RichProgress(terminal())
    with pytest.raises(KeyError), progress.task("a"), progress.task("b"):
        raise KeyError
    assert (progress.bars, progress.open) == (None, 0)


def test_threads_share_it() -> None:
    progress = RichProgress(terminal())

    def work(number: int) -> None:
        with progress.task(f"task {number}", total=100) as task:
            for _ in range(100):
                task.advance()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert (progress.bars, progress.open) == (None, 0)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((1_500_000, 3_000_000, "bytes"), "1.5/3.0 MB"),
        ((1_500_000, None, "bytes"), "1.5 MB"),
        ((3, 7, "layers"), "3/7 layers"),
        ((3, None, "layers"), "3 layers"),
    ],
)
def test_amounts(args: tuple[float, float | None, str], text: str) -> None:
    assert amount(*args) == text


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_progress(), LineProgress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(choose_progress(), RichProgress)
    monkeypatch.setattr("launcher.cli.progress.settings", lambda: type("S", (), {"quiet": True})())
    assert choose_progress() is SILENT
