"""The runner: checkpoints are held, bounded, sent at a rate, tried again, and told of at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.runner import backlog, holding
from launcher.runner.attempt import Attempt
from launcher.runner.backoff import Backoff
from launcher.runner.bandwidth import Bandwidth
from launcher.runner.blobs import ChangedError, Sender, walk
from launcher.runner.checkpoints import signature
from launcher.runner.freight import Freight, Progress
from launcher.runner.holding import Held
from launcher.runner.pool import each, every
from launcher.runner.scores import Scores
from launcher.runner.spool import Chunk, Spool
from launcher.runner.wholeness import half
from launcher.store import keys
from tests.attempts import Bench, wait_for
from tests.patience import LONG_S

FOLDER = "f = os.environ['LAUNCHER_CHECKPOINT_DIR']\n"
SAVE = (
    "def save(name, data):\n  open(f + '/' + name + '.tmp', 'wb').write(data)\n"
    "  os.rename(f + '/' + name + '.tmp', f + '/' + name)\n"
)
WAIT = "end = time.monotonic() + 20\nwhile not os.path.exists('go') and time.monotonic() < end: time.sleep(0.02)\n"
HELD = (
    "def held(n):\n  here = f + f'/../spool/held/0001-{n:08d}'\n"
    "  return os.path.isdir(here) and os.listdir(here)\n"  # the folder is there a moment before what it holds
)
UNTIL_HELD = "  end = time.monotonic() + 20\n  while not held(n) and time.monotonic() < end: time.sleep(0.02)\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    told = {"version": 1, "job": {"run": "r", "argv": ["true"]}, "attempt": 1, "store": str(tmp_path / "store")}
    (tmp_path / "checkpoints").mkdir()
    return Attempt(told, str(tmp_path))


def kept(bench: Bench) -> list[str]:
    return [event["name"] for event in bench.events("checkpoint")]


def stored(bench: Bench, name: str) -> bytes:
    """Return the content of a checkpoint of one file."""
    [event] = [event for event in bench.events("checkpoint") if event["name"] == name]
    return bench.store.get(keys.blob_of(bench.run, json.loads(bench.store.get(event["key"]))["files"][0]))


def test_pauses_grow_with_jitter_up_to_a_limit() -> None:
    backoff = Backoff(0.5, 30.0)
    pauses = [backoff.pause_s() for _ in range(200)]
    assert all(pause <= 0.5 * 2**n for n, pause in enumerate(pauses[:6]))
    assert max(pauses) <= 30 and max(pauses) > 20 and min(pauses[10:]) < 10 and len(set(pauses)) > 190
    backoff.worked()
    assert backoff.pause_s() <= 0.5


def test_bytes_are_paid_for_and_a_lifted_limit_frees_whoever_waits() -> None:
    bandwidth, begun = Bandwidth(1_000_000), time.monotonic()
    for _ in range(4):
        bandwidth.take(100_000)
    assert 0.29 < time.monotonic() - begun < 20
    bandwidth.take(100_000_000)
    waiting = threading.Thread(target=bandwidth.take, args=(1,))
    waiting.start()
    bandwidth.lift()
    waiting.join(5)
    assert not waiting.is_alive()
    Bandwidth(None).take(1 << 40)


def test_several_at_once_keeps_the_order_and_stops_where_it_is_hopeless() -> None:
    done = []

    def action(n: int) -> int:
        if n == 3:
            raise ValueError(n)
        done.append(n)
        return n * n

    results = each(action, range(200), 1)
    assert results[:3] == [0, 1, 4] and all(isinstance(result, ValueError) for result in results[3:])
    assert done == [0, 1, 2]
    assert len(each(action, range(200), 4, hopeless=lambda e: False)) == 200 and len(done) == 202
    with pytest.raises(ValueError):
        every(action, [1, 2, 3], 3)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_end_is_told_with_what_is_left(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    freight = Freight()
    freight.expect(12, 4_000_000_000)
    freight.moved()
    freight.samples[0] = (now - 10, 0)
    freight.moved(1_200_000_000, files=3)
    read, write = os.openpty() if terminal else os.pipe()
    progress = Progress(freight, write)
    progress.tick(0, None)
    progress.next_at = 0
    progress.tick(5, None)
    progress.next_at = 0
    progress.tick(0, "UnreachableError: no answer")
    progress.over()
    end = "\r\x1b[2K" if terminal else "\n"
    said = os.read(read, 10_000).decode()
    while not ("takes nothing" in said and said.endswith(end)):  # a terminal gives what was written bit by bit
        said += os.read(read, 10_000).decode()
    for descriptor in (read, write):
        os.close(descriptor)
    assert said.count("3 of 12 files, 1.2 of 4.0 GB, 120 MB/s, about 23 s left") == 2
    assert "5 log chunks" in said and "takes nothing: UnreachableError" in said
    assert ("\r\x1b[2K" in said) == terminal and said.endswith(end)


def test_what_is_in_the_store_before_the_end_is_no_part_of_what_is_waited_for() -> None:
    freight = Freight()
    freight.expect(3, 30)
    freight.moved(10, files=1)
    freight.restart()
    assert freight.line(time.monotonic()) == "0 of 2 files, 0 of 20 B"


HEADER = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
TENSORS = len(HEADER).to_bytes(8, "little") + HEADER + b"1234"


@pytest.mark.parametrize(
    ("files", "is_half"),
    [
        ({"a.safetensors": TENSORS}, False),
        ({"a.safetensors": TENSORS[:-1]}, True),
        ({"a.safetensors": TENSORS[:20]}, True),
        ({"a.safetensors": b"\xff" * 100}, False),
        ({"m.safetensors.index.json": b'{"weight_map": {"x": "m-1.safetensors"}}'}, True),
        ({"m.safetensors.index.json": b'{"weight_map": {"x": "m-1"}}', "m-1": b""}, False),
        ({"__0_0.distcp": b"x"}, True),
        ({"__0_0.distcp": b"x", ".metadata": b"x"}, False),
        ({"a.pt": b"PK\x03\x04 cut"}, True),
        ({"a.pt": b"PK\x03\x04 all PK\x05\x06" + b"\0" * 18}, False),
        ({"a.pt": b"pickled", "b": b""}, False),
    ],
)
def test_formats_tell_what_is_half(tmp_path: Path, files: dict[str, bytes], is_half: bool) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert half(str(tmp_path)) == is_half
    if len(files) == 1 and not name.endswith((".json", ".distcp")):
        assert half(str(tmp_path / name)) == is_half


def test_a_sharded_folder_is_taken_once_its_metadata_is_there(bench: Bench) -> None:
    script = FOLDER + (
        "os.mkdir(f + '/1'); open(f + '/1/__0_0.distcp', 'w').write('x')\n"
        "open(f + '/cut.pt', 'wb').write(b'PK\\3\\4 and no end')\n"
        + WAIT
        + "open(f + '/1/.metadata', 'w').write('m'); time.sleep(1)"
    )
    with bench.start(bench.script(script)) as process:
        time.sleep(1.5)
        assert kept(bench) == []
        (bench.cwd / "go").touch()
        process.communicate(timeout=LONG_S)
    assert kept(bench) == ["1"]
    assert any(
        "cut.pt is not kept: it was not written to its end" in event["text"] for event in bench.events("problem")
    )


def test_held_is_what_was_finished_whatever_becomes_of_its_names(attempt: Attempt, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "deep" / "x").write_bytes(b"first")
    (folder / "tree" / "link").symlink_to("deep/x")
    sign = signature(str(folder), "tree")
    held = holding.hold(attempt, "tree", 0, sign)
    assert held.linked and held.kind == "tree"
    (folder / "tree" / "deep" / "x").unlink()
    (folder / "tree" / "deep" / "x").write_bytes(b"second")
    assert [Path(file.full).read_bytes() for file in walk(held.path)] == [b"first", b"first"]
    with pytest.raises(ChangedError):
        holding.hold(attempt, "tree", 1, sign)
    assert holding.whole_ones(attempt) == []
    held.seal({"name": "tree"})
    assert holding.whole_ones(attempt) == [({"name": "tree"}, held.folder)]
    holding.sweep(attempt, but=held.folder)
    assert Path(held.path).exists()
    held.release()
    assert not Path(held.folder).exists()


def test_without_hard_links_it_is_read_where_it_lies(
    attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "checkpoints" / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "link", refuse)
    held = holding.hold(attempt, "a", 0, signature(str(tmp_path / "checkpoints"), "a"))
    assert (held.linked, held.path) == (False, str(tmp_path / "checkpoints" / "a"))
    held.release()
    assert (tmp_path / "checkpoints" / "a").exists()


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_no_object_lies_under_a_digest_that_is_not_its_own(tmp_path: Path, linked: bool, size: int) -> None:
    """A file that is written to between its hashing and its sending is refused, and nothing stays of it."""
    from launcher import store as stores
    from launcher.runner.blobs import line_of

    store, path = stores.open(str(tmp_path / "store")), tmp_path / "file"
    path.write_bytes(b"a" * size)
    [file] = walk(str(path))
    line = line_of(file, lambda: None)
    with path.open("r+b") as out:
        out.write(b"b")
    freight = Freight()
    with pytest.raises(ChangedError):
        Sender(freight, Bandwidth(None)).send(store, line["sha256"], file, line, linked)
    assert store.list() == [] and freight.bytes_done == 0
    [file] = walk(str(path))
    line = line_of(file, lambda: None)
    Sender(freight, Bandwidth(None)).send(store, line["sha256"], file, line, linked)
    assert store.size(line["sha256"]) == freight.bytes_done == size


def held(seq: int, n_bytes: int = 10, name: str = "") -> Held:
    return Held("/nowhere", name or f"step-{seq}", seq, (("x", n_bytes, 0, 0),))


def test_too_much_that_waits_is_given_up_from_the_oldest_on() -> None:
    waiting = [held(seq) for seq in range(6)]

    def numbers(keep: dict[str, Any], most: int) -> list[list[int]]:
        return [[one.seq for one in part] for part in backlog.superfluous(waiting, keep, most)]

    assert numbers({}, 60) == [[], []]
    assert numbers({}, 35) == [[], [0, 1, 2]]
    assert numbers({}, 1) == [[], [0, 1, 2, 3, 4]], "the newest stays, whatever its size"
    assert numbers({"last": 2}, 60) == [[0, 1, 2, 3], []]
    assert numbers({"last": 1, "every": 2}, 60) == [[1, 3], []]
    assert numbers({"every": 3}, 10) == [[1, 2, 4], [0, 3]], "a milestone goes only when nothing else is left"
    assert numbers({"last": 2, "best": "loss"}, 60) == [[], []], "which one is best isn't known yet"


def test_what_keep_best_would_forget_at_once_is_not_sent(attempt: Attempt) -> None:
    rows = [{"step": step, "loss": loss} for step, loss in enumerate((3.0, 1.0, 2.0, 4.0))]
    Path(attempt.path("metrics.jsonl")).write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores, waiting = Scores(attempt, "loss"), [held(seq) for seq in range(6)]
    scores.look()
    unwanted, _ = backlog.superfluous(waiting, {"last": 1, "best": "loss"}, 60, scores)
    assert [one.seq for one in unwanted] == [0, 2, 3], "1 is the best; 4 may turn out to be; 5 is the newest"
    unwanted, _ = backlog.superfluous(waiting, {"last": 1, "every": 3, "best": "loss", "mode": "max"}, 60, scores)
    assert [one.seq for one in unwanted] == [1, 2]


def closed_store(bench: Bench) -> Path:
    """Make a store that can't be opened until the file that this returns is gone."""
    door = bench.root / "later"
    door.write_text("")
    return door


def test_an_outage_is_ridden_out_and_nothing_is_lost(bench: Bench) -> None:
    """The script overwrites and deletes its own while the store does not answer."""
    door = closed_store(bench)
    script = FOLDER + SAVE + HELD + "for n in range(4):\n  save('last', b'%d' % n * 1000)\n" + UNTIL_HELD
    script += "os.unlink(f + '/last'); open('saved', 'w')\n" + WAIT
    argv = bench.script(script)
    with bench.start(argv, store=f"file://{door}/store") as process:
        wait_for(lambda: (bench.cwd / "saved").exists())
        wait_for(lambda: len(list(bench.folder.glob("spool/held/*/manifest.json"))) >= 1)
        door.unlink()
        wait_for(lambda: b"the store takes what it is given again" in process.stderr.readline())
        (bench.cwd / "go").touch()
        _, err = process.communicate(timeout=LONG_S)
    from launcher import store as stores

    bench.store = stores.open(f"{door}/store")
    contents = {json.loads(bench.store.get(event["key"]))["files"][0]["sha256"] for event in bench.events("checkpoint")}
    assert len(contents) == 4, err
    assert bench.events("closed")[0]["missing"] == []
    assert not list(bench.folder.glob("spool/held/*"))


def test_what_was_held_when_the_runner_was_killed_is_where_the_next_attempt_begins(bench: Bench) -> None:
    door = closed_store(bench)
    argv = bench.script(FOLDER + SAVE + "save('held', b'h' * 100)\n" + WAIT)
    with bench.start(argv, store=f"file://{door}/store") as process:
        wait_for(lambda: list(bench.folder.glob("spool/held/*/manifest.json")))
        process.send_signal(signal.SIGKILL)
        (bench.cwd / "go").touch()
        process.communicate()
    bench.script(FOLDER + "print(open(f + '/held').read())")
    done = bench.go(argv, 2, claim="now")
    assert done.stdout.decode().strip() == "h" * 100, done.stderr
    assert stored(bench, "held") == b"h" * 100, "and it gets to the store now"


def test_what_is_held_is_bounded_and_what_is_given_up_is_told(bench: Bench) -> None:
    door = closed_store(bench)
    script = FOLDER + SAVE + HELD + "for n in range(4):\n  save(f'step-{n}', os.urandom(50_000))\n" + UNTIL_HELD
    argv = bench.script(script + "open('saved', 'w')\n" + WAIT)
    with bench.start(argv, store=f"file://{door}/store", limits={"hold_bytes": 120_000}) as process:
        wait_for(lambda: (bench.cwd / "saved").exists())
        wait_for(lambda: len(list(bench.folder.glob("spool/held/*"))) == 2)
        door.unlink()
        (bench.cwd / "go").touch()
        _, err = process.communicate(timeout=LONG_S)
    from launcher import store as stores

    bench.store = stores.open(f"{door}/store")
    assert sorted(kept(bench)) in (["step-2", "step-3"], ["step-1", "step-3"], ["step-0", "step-3"])
    missing = bench.events("closed")[0]["missing"]
    assert len(missing) == 2 and all("newer ones wait for the store (hold_bytes)" in why for why in missing)
    assert b"not in the store: checkpoint step-" in err
    assert bench.events("host")[0]["limits"] == {"hold_bytes": 120_000}


@pytest.mark.alone
def test_uploads_keep_to_their_rate_until_the_command_has_ended(bench: Bench) -> None:
    script = FOLDER + SAVE + "save('a', os.urandom(3_000_000)); save('b', os.urandom(3_000_000)); time.sleep(5)\n"
    begun = time.monotonic()
    bench.python(script, job={"bandwidth": 1_000_000})
    sent = {event["name"]: event["send_s"] for event in bench.events("checkpoint")}
    assert set(sent) == {"a", "b"} and max(sent.values()) > 1, "what goes out first takes its time"
    assert time.monotonic() - begun < 20


def test_unchanged_contents_are_not_sent_twice(bench: Bench) -> None:
    script = FOLDER + (
        "for n in range(3):\n  os.mkdir(f + f'/{n}.tmp'); open(f + f'/{n}.tmp/same', 'w').write('s' * 5000)\n"
        "  open(f + f'/{n}.tmp/own', 'w').write(str(n) * 100); os.rename(f + f'/{n}.tmp', f + f'/{n}')\n"
        "  time.sleep(0.5)\n"
    )
    bench.python(script)
    assert sorted(event["sent_bytes"] for event in bench.events("checkpoint")) == [100, 100, 5100]


def test_one_that_is_written_to_in_place_is_taken_again_when_it_is_quiet(bench: Bench) -> None:
    script = FOLDER + (
        "open(f + '/a.tmp', 'wb').write(b'0' * 3_000_000); os.rename(f + '/a.tmp', f + '/a')\n"
        "out = open(f + '/a', 'r+b', buffering=0)\n"
        "end = time.monotonic() + 2\nwhile time.monotonic() < end: out.seek(0); out.write(os.urandom(8))\n"
        "out.seek(0); out.write(b'the last'); out.close(); time.sleep(1)\n"
    )
    bench.python(script)
    events = bench.events("checkpoint")
    last = json.loads(bench.store.get(events[-1]["key"]))["files"][0]
    assert bench.store.get(keys.blob_of(bench.run, last))[:9] == b"the last0"


def test_a_run_that_another_attempt_has_taken_over_ends_and_says_why(bench: Bench) -> None:
    argv = bench.script(FOLDER + SAVE + "save('mine', b'm')\n" + WAIT + "save('late', b'l')\ntime.sleep(60)\n")
    with bench.start(argv, times={"lease_s": 0.5}) as process:
        wait_for(lambda: kept(bench) == ["mine"])
        other = {"version": 1, "epoch": 2, "attempt": 2, "owner": "x", "host": "node7", "time": "now", "lease_s": 60}
        bench.store.create(keys.claim(bench.run, 2), json.dumps({**other, "inherits": []}).encode())
        (bench.cwd / "go").touch()
        _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"superseded by attempt 2 on node7" in err
    assert [event["by"] for event in bench.events("superseded")] == [2]
    assert kept(bench) == ["mine"]
    assert not bench.store.exists(keys.record(bench.run)), "the record is for the one that has the run"


def test_logs_that_wait_too_long_are_dropped_from_the_oldest_on(tmp_path: Path) -> None:
    chunks: list[Chunk] = []
    spool = Spool(str(tmp_path), 1.0, chunks.append, most_bytes=1000)
    for n in range(5):
        spool.add(b"%d" % n * 300, 0.0)
        spool.rotate()
    assert [chunk.dropped for chunk in chunks] == [True, True, False, False, False]
    assert spool.lost_bytes == 600
    chunks[2].forget()  # was shipped
    spool.add(b"5" * 300, 0.0)
    spool.rotate()
    assert spool.lost_bytes == 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000004", "00000005"]


def test_what_stores_gives_way_and_only_for_a_while() -> None:
    """In a process with a session of its own, since a weight that was given away doesn't come back to a thread."""
    code = (
        "import os, threading; from launcher.runner import priority\n"
        "weight = lambda: os.path.exists(priority.AUTOGROUP) and open(priority.AUTOGROUP).read().split()[-1]\n"
        "with priority.session_gives_way(False): inside = weight()\n"
        "print(inside, weight())\n"
        "threads = [threading.Thread(target=lambda: (priority.give_way(), print(os.getpriority(0, 0))))]\n"
        "threads[0].start(); threads[0].join(); print(os.getpriority(0, 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True)
    inside, after, thread, main = done.stdout.split()
    assert (inside, after) in (("19", "0"), ("False", "False"), ("0", "0")), done.stderr
    assert (thread, int(main) < 19) == ("19", True)
