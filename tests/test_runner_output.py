"""The runner: output byte for byte, and as log records."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.records import logs as reading
from launcher.runner.logs import PIECE_BYTES, Lines
from tests.attempts import Bench, wait_for, without_progress
from tests.patience import LONG_S

RECORD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (stdout|stderr) [FP] [^\n]*")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


def lines_of(bench: Bench, stream: str = "stdout") -> list[bytes]:
    lines = reading.joined(reading.read(bench.store, bench.run))
    return [line.data for line in lines if line.stream == stream]


@pytest.mark.alone
def test_a_hundred_thousand_lines_come_through_fast_and_whole(bench: Bench) -> None:
    script = "sys.stdout = open(1, 'w', buffering=1 << 16)\nfor n in range(100_000): print('a line of output', n)\n"
    begun = time.perf_counter()
    done = bench.python(script)
    assert time.perf_counter() - begun < 10
    expected = [b"a line of output %d" % n for n in range(100_000)]
    assert done.stdout.splitlines() == expected
    assert lines_of(bench) == expected
    assert all(RECORD.fullmatch(record) for record in bench.logs().splitlines())


def test_binary_output_survives(bench: Bench) -> None:
    script = "sys.stdout.buffer.write(bytes(range(256)) * 1000)"
    done = bench.python(script)
    assert done.stdout == bytes(range(256)) * 1000
    assert b"\0\x01\x02" in bench.logs() and bench.record().complete


def test_both_streams_are_kept_apart(bench: Bench) -> None:
    done = bench.go(["sh", "-c", "echo out; echo err >&2; printf 'no end'"])
    assert (done.stdout, without_progress(done.stderr)) == (b"out\nno end", b"err\n")
    assert (lines_of(bench), lines_of(bench, "stderr")) == ([b"out", b"no end"], [b"err"])


def test_an_unfinished_line_is_seen_while_it_waits(bench: Bench) -> None:
    argv = bench.script(
        "print('prompt> ', end='', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint('ok')"
    )
    with bench.start(argv) as process:
        wait_for(lambda: b"stdout P prompt> " in bench.logs())
        (bench.cwd / "go").touch()
        assert process.communicate(timeout=LONG_S)[0] == b"prompt> ok\n"
    assert lines_of(bench) == [b"prompt> ok"]


def test_a_progress_bar_does_not_flood_the_log(bench: Bench) -> None:
    script = "for n in range(20_000): sys.stderr.write(f'\\r{n:6}/20000')\nsys.stderr.write('\\n')\nprint('end\\r')"
    done = bench.python(script)
    assert done.stderr.count(b"\r") == 20_000
    assert len(bench.logs()) < 2_000
    lines = reading.joined(reading.read(bench.store, bench.run))
    assert sorted(reading.as_shown(line.data) for line in lines) == [b" 19999/20000", b"end"]


def test_the_run_goes_on_when_nobody_reads_its_output(bench: Bench) -> None:
    argv = bench.script("for n in range(20_000): print('x' * 100)\nopen('done', 'w')")
    with bench.start(argv) as process:
        process.stdout.close()
        process.stderr.close()
        assert process.wait(timeout=LONG_S) == 0
    assert (bench.cwd / "done").exists()
    assert len(lines_of(bench)) == 20_000


@pytest.mark.alone
def test_output_is_no_slower_than_a_pipe_within_reason(bench: Bench) -> None:
    """64 MB through the runner: the reader must not become the bottleneck of a training."""
    begun = time.perf_counter()
    done = bench.go(["sh", "-c", "head -c 64000000 /dev/zero | tr '\\0' 'a' | fold -w 99"])
    took = time.perf_counter() - begun
    assert len(done.stdout) > 64_000_000
    assert took < 15, f"{took:.1f} s"


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_records_do_not_depend_on_how_the_output_is_cut(size: int) -> None:
    data = b"one\ntwo\r\n\n\rp 1\rp 2\nlast \xff\n\r\r\nrest"
    whole, cut = Lines("stdout"), Lines("stdout")
    pieces = b"".join(cut.feed(data[at : at + size], b"T") for at in range(0, len(data), size))
    assert pieces + cut.flush(b"T") == whole.feed(data, b"T") + whole.flush(b"T")


def test_a_line_without_end_is_cut_into_pieces() -> None:
    lines = Lines("stdout")
    records = b"".join(lines.feed(b"x" * 1000, b"T") for _ in range(200)) + lines.feed(b"\n", b"T")
    found = list(reading.parse(records, 1))
    assert [line.whole for line in found] == [False] * (len(found) - 1) + [True]
    assert max(len(line.data) for line in found) < PIECE_BYTES + 1000
    assert next(iter(reading.joined(iter(found)))).data == b"x" * 200_000


def test_what_a_background_process_holds_open_does_not_hold_the_run(bench: Bench) -> None:
    begun = time.perf_counter()
    done = bench.go(["sh", "-c", "setsid sleep 60 & sleep 60 & echo started"])
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert time.perf_counter() - begun < 55


def test_chunks_are_small_objects_in_order(bench: Bench) -> None:
    bench.go(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' 'a' | fold -w 99"])
    entries = bench.store.list("runs/run-1/logs/0001/")
    assert [entry.key[-8:] for entry in entries] == [f"{n:08d}" for n in range(len(entries))]
    assert 8 < len(entries) < 20
    assert not any(os.scandir(bench.folder / "spool" / "1")), "what is shipped leaves the spool"


def test_following_ends_with_the_run(bench: Bench) -> None:
    from launcher import records

    argv = bench.script("for n in range(5): print(n, flush=True); time.sleep(0.1)")
    with bench.start(argv) as process:
        wait_for(lambda: bench.events("started"))
        over = lambda: reading.finished(records.load(bench.store, bench.run))  # noqa: E731
        lines = list(
            itertools.islice(reading.follow(bench.store, bench.run, over, pause=lambda _: time.sleep(0.05)), 99)
        )
        process.communicate(timeout=LONG_S)
    assert [line.data for line in lines] == [b"0", b"1", b"2", b"3", b"4"]


def test_the_command_line_prints_logs(bench: Bench) -> None:
    bench.go(["sh", "-c", "printf 'a\\rb\\nlast'; echo oops >&2"])

    def launcher(*args: str) -> bytes:
        command = [sys.executable, "-m", "launcher", *args, "--store", str(bench.root / "store")]
        return subprocess.run(command, capture_output=True, check=True).stdout

    assert sorted(launcher("logs", "run").splitlines()) == [b"b", b"last", b"oops"]
    assert launcher("logs", "run-1", "--stdout", "-f") == b"b\nlast\n"
    assert b'"stream": "stderr", "text": "oops"}' in launcher("logs", "run-1", "--json")
    assert re.fullmatch(rb"\d{4}\S+Z oops\n", launcher("logs", "run-1", "--stderr", "-t"))
    assert b"succeeded" in launcher("show", "run") and b"run-1" in launcher("ls")
