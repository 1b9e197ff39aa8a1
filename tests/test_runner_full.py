"""The runner: a full or refusing store or run folder is told, retried and recorded; the command does not suffer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attempts import Bench, wait_for
from tests.patience import LONG_S

SHORT = {"flush_s": 3.0}
needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small tmpfs needs root"
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


@pytest.fixture
def small(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 512 KiB at the folder below the bench that the test names."""
    place: Path = bench.root / request.param
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"mount: {done.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Fill a small file system."""
    filler = place / "filler"
    stats = os.statvfs(place)
    with contextlib.suppress(OSError):  # whoever else writes here was quicker: then it is full as well
        filler.write_bytes(b"\0" * max(0, stats.f_bavail * stats.f_frsize - leave))
    return filler


@needs_mount
@pytest.mark.parametrize("small", ["store"], indirect=True)
def test_a_full_store_does_not_hurt_the_command_and_what_is_missing_is_told(bench: Bench, small: Path) -> None:
    script = (
        "open(os.environ['LAUNCHER_OUTPUT_DIR'] + '/big', 'wb').write(os.urandom(600_000))\n"
        "open(os.environ['LAUNCHER_OUTPUT_DIR'] + '/small', 'w').write('fits')\n"
        "print('fine')"
    )
    done = bench.python(script, times={"flush_s": 20.0})
    assert (done.returncode, done.stdout) == (0, b"fine\n")
    record = bench.record()
    assert (record.state, record.complete) == ("succeeded", False)
    assert len(record.missing) == 1 and record.missing[0].startswith("output big: "), record.missing
    assert "no space is left in the store" in record.missing[0]
    assert bench.store.get("runs/run-1/outputs/0001/files/small") == b"fits"
    assert b"not in the store: output big" in done.stderr


@needs_mount
@pytest.mark.parametrize("small", ["store"], indirect=True)
def test_when_the_store_has_room_again_everything_arrives(bench: Bench, small: Path) -> None:
    argv = bench.script("print('x' * 50_000, flush=True)\nwhile not os.path.exists('go'): time.sleep(0.02)")
    bench.store.put("warm", b"")
    process = bench.start(argv)
    filler = fill(small)
    line = wait_for(process.stderr.readline)
    assert b"the store does not take" in line and b"no space is left" in line
    filler.unlink()
    wait_for(lambda: b"x" * 50_000 in bench.logs())
    (bench.cwd / "go").touch()
    process.communicate(timeout=LONG_S)
    assert (bench.record().state, bench.record().complete) == ("succeeded", True)


@needs_mount
@pytest.mark.parametrize("small", ["folder"], indirect=True)
def test_a_full_run_folder_keeps_logs_in_memory(bench: Bench, small: Path) -> None:
    argv = bench.script("while not os.path.exists('go'): time.sleep(0.02)\nfor n in range(20_000): print('line', n)")
    with bench.start(argv) as process:
        wait_for(lambda: bench.events("started"))
        fill(small)
        (bench.cwd / "go").touch()
        out, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 0 and len(out.splitlines()) == 20_000
    assert b"the run's folder can't be written" in err
    assert bench.logs().count(b"\n") == 20_000
    assert bench.record().complete


@needs_mount
@pytest.mark.parametrize("small", ["store"], indirect=True)
def test_a_store_that_stays_full_ends_the_wait_in_time(bench: Bench, small: Path) -> None:
    argv = bench.script("while not os.path.exists('go'): time.sleep(0.02)\nsys.exit(4)")
    with bench.start(argv, times=SHORT) as process:
        wait_for(lambda: bench.events("host"))
        fill(small)
        (bench.cwd / "go").touch()
        _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 4, "the exit code is the command's, whatever the store does"
    assert b"are not in the store" in err
    told = json.loads((bench.folder / "missing.json").read_text())
    assert any("events/0001" in key for key in told["missing"])
    assert [event["code"] for event in told["events"] if event["kind"] == "ended"] == [4]


def test_a_store_that_cannot_be_opened_ends_the_wait_in_time(bench: Bench) -> None:
    (bench.root / "file").write_text("")
    done = bench.go(["sh", "-c", "echo fine; exit 6"], store=f"file://{bench.root}/file", times={"flush_s": 4.0})
    assert (done.returncode, done.stdout) == (6, b"fine\n")
    assert b"the store does not take" in done.stderr
    assert b"are not in the store" in done.stderr
