"""The runner: checkpoints are taken whole, come back whole, and survive SIGKILL at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from launcher.digest import sha256_bytes
from launcher.runner.checkpoints import Watch, candidates, signature
from launcher.store import keys
from tests.attempts import Bench, wait_for
from tests.patience import LONG_S

FOLDER = "f = os.environ['LAUNCHER_CHECKPOINT_DIR']\n"
WAIT = "while not os.path.exists('go'): time.sleep(0.02)\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


def kept(bench: Bench) -> list[str]:
    return [event["name"] for event in bench.events("checkpoint")]


def whole(bench: Bench) -> int:
    """Check that every checkpoint that a reader sees is whole; return how many there are."""
    manifests = [
        entry.key for entry in bench.store.list(keys.checkpoints(bench.run)) if entry.key.endswith("manifest.json")
    ]
    for key in manifests:
        for file in json.loads(bench.store.get(key))["files"]:
            if "link" in file:
                continue
            assert sha256_bytes(bench.store.get(keys.blob_of(bench.run, file))) == file["sha256"]
    for entry in bench.store.list(f"runs/{bench.run}/blobs/"):
        assert sha256_bytes(bench.store.get(entry.key)) == entry.key.rpartition("/")[2]
    return len(manifests)


def test_finished_ones_are_taken_while_the_command_runs(bench: Bench) -> None:
    script = FOLDER + (
        "open(f + '/a', 'w').write('A'); open(f + '/b.tmp', 'w').write('half'); open(f + '/.c', 'w').write('hidden')\n"
        "os.mkdir(f + '/d.part'); open(f + '/d.part/x', 'w').write('X'); os.mkdir(f + '/d.part/e')\n"
        "open(f + '/d.part/e/y', 'w').write('Y'); os.symlink('e/y', f + '/d.part/l')\n"
        "os.rename(f + '/d.part', f + '/d')\n"
        "held = open(f + '/held', 'w'); held.write('so far'); held.flush()\n"
    )
    with bench.start(bench.script(script + WAIT)) as process:
        wait_for(lambda: sorted(kept(bench)) == ["a", "d"])
        time.sleep(1.5)
        assert sorted(kept(bench)) == ["a", "d"], "what is open, hidden or marked as unfinished waits"
        (bench.cwd / "go").touch()
        process.communicate(timeout=LONG_S)
    assert sorted(kept(bench)) == ["a", "d", "held"], "at the end everything is taken, but what is marked as unfinished"
    assert whole(bench) == 3


def test_the_next_attempt_finds_the_newest_and_nothing_else(bench: Bench) -> None:
    first = FOLDER + (
        "for n in range(3):\n  open(f + f'/{n}', 'w').write(str(n)); time.sleep(0.02)\n"
        "os.mkdir(f + '/last'); open(f + '/last/run.sh', 'w').write('go'); os.chmod(f + '/last/run.sh', 0o755)\n"
        "os.symlink('run.sh', f + '/last/link'); open(f + '/half.tmp', 'w')\n"
    )
    bench.python(first)
    second = FOLDER + (
        "print(os.listdir(f), oct(os.stat(f + '/last/run.sh').st_mode)[-3:], os.readlink(f + '/last/link'))\n"
        "print(os.listdir(os.environ['LAUNCHER_OUTPUT_DIR']), os.environ['LAUNCHER_ATTEMPT'])\n"
    )
    done = bench.go(bench.script(second), 2)
    assert done.stdout.decode() == "['last'] 755 run.sh\n[] 2\n", done.stderr
    assert [event["name"] for event in bench.events("restored")] == ["last"]
    assert len(kept(bench)) == 4, "what was restored is not taken again"


def test_a_name_written_again_is_a_newer_checkpoint(bench: Bench) -> None:
    script = FOLDER + "open(f + '/last.pt', 'w').write('old')\n" + WAIT + "open(f + '/last.pt', 'w').write('new')\n"
    with bench.start(bench.script(script)) as process:
        wait_for(lambda: kept(bench) == ["last.pt"])
        (bench.cwd / "go").touch()
        process.communicate(timeout=LONG_S)
    assert kept(bench) == ["last.pt", "last.pt"] and whole(bench) == 2
    bench.script(FOLDER + "print(open(f + '/last.pt').read())")
    assert bench.go(list(bench.record().argv), 2).stdout == b"new\n"


@pytest.mark.parametrize("damage", ["flip", "remove", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(bench: Bench, damage: str) -> None:
    argv = bench.script(FOLDER + "open(f + '/1', 'w').write('one'); time.sleep(0.05); open(f + '/2', 'w').write('two')")
    bench.go(argv)
    newest = json.loads(bench.store.get(keys.checkpoint(bench.run, 1, 1)))
    assert newest["name"] == "2"
    blob = keys.blob(bench.run, newest["files"][0]["sha256"])
    if damage == "flip":
        bench.store.put(blob, b"twO")
    elif damage == "remove":
        bench.store.delete(blob)
    else:
        bench.store.put(keys.checkpoint(bench.run, 1, 1), b'{"name": "../../escape", "kind": "file", "files": []}')
    bench.script(FOLDER + "print(os.listdir(f))")
    done = bench.go(argv, 2)
    assert done.stdout == b"['1']\n"
    assert b"a checkpoint is damaged" in done.stderr
    assert "damaged checkpoint passed over" in bench.record().attempts[1].problems[0]


def test_an_attempt_that_cannot_read_checkpoints_does_not_begin_from_nothing(bench: Bench) -> None:
    argv = bench.script(FOLDER + "open(f + '/1', 'w').write('one')")
    bench.go(argv)
    (bench.root / "elsewhere").write_text("a file, no folder")
    done = bench.go(argv, 2, store=f"file://{bench.root}/elsewhere", times={"restore_s": 0.5})
    assert done.returncode == 125
    assert b"checkpoints can't be read" in done.stderr


def test_candidates_come_oldest_first(tmp_path: Path) -> None:
    for at, name in enumerate(("b", "a", "x.tmp", ".h", "c")):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (at, at))
    (tmp_path / "link").symlink_to("a")
    assert candidates(str(tmp_path)) == ["b", "a", "c"]


def test_a_pipe_is_no_checkpoint(bench: Bench) -> None:
    """As the newest it was all that a resume found, and with `keep: {last: 1}` all that stayed."""
    code = "open(f + '/step-1', 'w').write('one'); os.mkfifo(f + '/step-2')\n"
    code += "os.mkdir(f + '/step-3'); os.mkfifo(f + '/step-3/pipe')"
    assert bench.go(bench.script(FOLDER + code)).returncode == 0
    assert kept(bench) == ["step-1"]
    assert b"['step-1']" in bench.go(bench.script(FOLDER + "print(sorted(os.listdir(f)))"), 2).stdout


def test_a_growing_file_is_not_finished(tmp_path: Path) -> None:
    watch = Watch(str(tmp_path), 1.0, 1.0, {})
    for now in range(5):
        (tmp_path / "grows").write_text("x" * now + "y")
        assert watch.finished(float(now), False) == []
    assert watch.finished(4.5, False) == []
    assert [name for name, _ in watch.finished(5.5, False)] == ["grows"]


def test_what_was_renamed_into_its_place_is_finished_at_once(tmp_path: Path) -> None:
    watch = Watch(str(tmp_path), 100.0, 100.0, {})
    (tmp_path / "plain").write_text("x")
    (tmp_path / "plain-folder").mkdir()
    (tmp_path / "plain-folder" / "file").write_text("x")
    (tmp_path / "file.tmp").write_text("x")
    (tmp_path / "folder.tmp").mkdir()
    (tmp_path / "folder.tmp" / "file").write_text("x")
    time.sleep(0.02)  # the kernel's clock for files ticks every few milliseconds
    for name in ("file", "folder"):
        (tmp_path / f"{name}.tmp").rename(tmp_path / name)
    assert sorted(name for name, _ in watch.finished(1.0, False)) == ["file", "folder"]
    with (tmp_path / "file").open("a"):
        assert [name for name, _ in watch.finished(2.0, False)] == ["folder"], "open for writing: not finished"


TRAINING = """
folder, out = os.environ['LAUNCHER_CHECKPOINT_DIR'], os.environ['LAUNCHER_OUTPUT_DIR']
names = sorted(os.listdir(folder))
state = json.load(open(os.path.join(folder, names[-1], 'state'))) if names else {'step': 0, 'value': 1}
for step in range(state['step'], 40):
    state = {'step': step + 1, 'value': (state['value'] * 48271 + step) % 2147483647}
    print(json.dumps({'step': step, 'loss': state['value']}), file=open(os.environ['LAUNCHER_METRICS'], 'a'))
    print('step', step, flush=True)
    part = os.path.join(folder, f'{step:04d}.tmp')
    os.mkdir(part)
    with open(part + '/weights', 'wb') as f: f.write(str(state['value']).encode() * 20000)
    json.dump(state, open(part + '/state', 'w'))
    os.rename(part, part[:-4])
    time.sleep(0.02)
json.dump(state, open(out + '/final', 'w'))
"""


def final(bench: Bench) -> str:
    record = bench.record()
    assert (record.state, record.complete) == ("succeeded", True)
    assert record.outputs is not None
    return str(record.outputs["digest"])


@pytest.mark.slow
def test_killed_at_random_moments_the_run_comes_to_the_same_end(tmp_path: Path) -> None:
    """25 times SIGKILL for the runner, at any moment from its first instruction on; then the run may finish."""
    calm = Bench(tmp_path / "calm")
    begun = time.monotonic()
    calm.go(calm.script(TRAINING))
    undisturbed = time.monotonic() - begun  # on a machine with much else to do, nothing happens in a fixed time
    bench, chance = Bench(tmp_path / "killed"), random.Random(1)
    argv, attempt, taken = bench.script(TRAINING), 0, 0
    for attempt in range(1, 26):
        with bench.start(argv, attempt, times={"quiet_s": 0.05, "quiet_folder_s": 0.05}) as process:
            time.sleep(chance.uniform(0, undisturbed))
            process.send_signal(signal.SIGKILL)
            end_commands(argv[-1])
            process.communicate()
        now = whole(bench)
        assert now >= taken
        taken = now
        assert bench.record().state in ("queued", "running", "succeeded")
    bench.go(argv, attempt + 1)
    assert final(bench) == final(calm)
    assert taken >= 1, "some checkpoint was taken between two kills"
    logged = {line.split(b" F ")[1] for line in bench.logs().splitlines()}
    assert {b"step %d" % step for step in range(40)} <= logged


def end_commands(script: str) -> None:
    """End what a killed runner left behind, as the container's end would."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().endswith(script.encode() + b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:
            continue


def test_one_that_is_renamed_over_all_the_time_is_taken_all_the_same(bench: Bench) -> None:
    """A script that saves several times a second, atomically, under one name: every state of it is whole."""
    script = FOLDER + (
        "n = 0\nwhile not os.path.exists('go'):\n  n += 1\n"
        "  with open(f + '/last.tmp', 'wb') as out: out.write(str(n).encode() * 200_000)\n"
        "  os.replace(f + '/last.tmp', f + '/last'); time.sleep(0.03)\n"
    )
    with bench.start(bench.script(script), times={"quiet_s": 100.0}) as process:
        wait_for(lambda: len(kept(bench)) >= 3)
        (bench.cwd / "go").touch()
        process.communicate(timeout=LONG_S)
    assert whole(bench) >= 3
    assert not list((bench.folder / "spool" / "held").iterdir())


def test_one_that_is_renamed_over_while_it_is_looked_at_is_taken_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many processes run, to look at who has it open takes longer than a command needs for the next one."""
    watch = Watch(str(tmp_path), 100.0, 100.0, {})

    def save(text: str, renamed: bool = True) -> None:
        place = tmp_path / ("last.tmp" if renamed else "last")
        if not renamed:
            (tmp_path / "last").rename(tmp_path / "old.tmp")  # so that it is another file
        place.write_text(text)
        place.rename(tmp_path / "last")

    save("one")
    for text, renamed in (("two", True), ("three", False)):
        monkeypatch.setattr(watch, "open_for_writing", lambda _, t=text, r=renamed: save(t, r))
        [(name, sign)] = watch.finished(1.0, False)
        assert name == "last"
        assert (sign == signature(str(tmp_path), "last")) == renamed, "what was not renamed into its place waits"


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(3)", "os._exit(137)"])
def test_what_was_perhaps_being_written_when_the_command_was_cut_off_is_not_taken(bench: Bench, end: str) -> None:
    script = FOLDER + (
        "open(f + '/whole.tmp', 'w').write('W'); time.sleep(0.02); os.rename(f + '/whole.tmp', f + '/whole')\n"
        "open(f + '/left-alone', 'w').write('L'); os.utime(f + '/left-alone', (time.time() - 50,) * 2)\n"
        f"out = open(f + '/half', 'w'); out.write('H' * 100_000); out.flush(); {end}\n"
    )
    bench.go(bench.script(script), times={"quiet_s": 30.0, "look_s": 30.0})
    assert sorted(kept(bench)) == ["left-alone", "whole"]
    assert any("checkpoint half is not kept" in event["text"] for event in bench.events("problem"))


def test_what_a_command_leaves_that_was_asked_to_stop_and_ended_by_itself_is_taken(bench: Bench) -> None:
    script = FOLDER + (
        "import signal\ndef save(*_):\n  open(f + '/last', 'w').write('saved'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, save); open('ready', 'w')\nwhile True: time.sleep(1)\n"
    )
    with bench.start(bench.script(script), times={"quiet_s": 30.0}) as process:
        wait_for(lambda: (bench.cwd / "ready").exists())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
    assert kept(bench) == ["last"]


def test_a_rename_is_heard_where_the_clock_is_too_slow_to_tell_it(tmp_path: Path) -> None:
    watch = Watch(str(tmp_path), 100.0, 100.0, {})
    (tmp_path / "folder.tmp").mkdir()
    for name in ("a", "b", "folder.tmp/x"):
        (tmp_path / f"{name}.tmp").write_text("x")
    for name in ("a", "b"):
        (tmp_path / f"{name}.tmp").rename(tmp_path / name)
    (tmp_path / "folder.tmp").rename(tmp_path / "folder")
    (tmp_path / "plain").write_text("x")
    for path in tmp_path.iterdir():
        if path.is_file():
            assert watch.quiet_time(path.name, signature(str(tmp_path), path.name)) == (0 if path.name in "ab" else 100)
    (tmp_path / "b").write_text("again")
    assert {name for name, _ in watch.finished(1.0, False)} == {"a", "folder"}
    assert watch.doubtful(time.time()) == ["plain", "b"]
