"""Restoring: the newest whole checkpoint that counts comes back, whatever else lies there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.digest import sha256_bytes
from launcher.errors import IntegrityError, UnreachableError
from launcher.runner import arrival, claims, holding
from launcher.runner.attempt import Attempt, AttemptError
from launcher.runner.leases import Turn
from launcher.runner.outbox import Outbox
from launcher.runner.restore import Restored, restore
from launcher.runner.standing import patiently, renewed
from launcher.store import keys
from launcher.store.objects import Store
from tests.attempts import Bench, wait_for
from tests.patience import LONG_S

RUN = "run-1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "store"))


def attempt(folder: Path, number: int = 2) -> Attempt:
    for name in ("checkpoints", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    told = {"version": 1, "job": {"run": RUN, "argv": ["true"]}, "attempt": number, "store": "memory://"}
    return Attempt(told, str(folder))


def put(store: Store, number: int, seq: int, files: dict[str, bytes], mark: str = "") -> str:
    """Store a checkpoint: a folder `step-<seq>` of some files."""
    lines = []
    for path, data in files.items():
        store.put(keys.blob(RUN, sha256_bytes(data), mark), data)
        line = {"path": path, "mode": "0644", "size": len(data), "sha256": sha256_bytes(data)}
        lines.append({**line, **({"mark": mark} if mark else {})})
    told = {"name": f"step-{seq}", "kind": "tree", "attempt": number, "seq": seq, "files": lines}
    told["bytes"] = sum(map(len, files.values()))
    key = keys.checkpoint(RUN, number, seq)
    store.create(key, json.dumps({"version": 1, **told}).encode())
    return key


def bring(store: Store, node: Attempt) -> Restored:
    return restore(store, node, claims.take(store, node, True, owner=f"o{node.number}"))


def there(node: Attempt) -> dict[str, bytes]:
    root = Path(node.path("checkpoints"))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_newest_comes_back_with_many_files_and_empty_ones(store: Store, tmp_path: Path) -> None:
    put(store, 1, 0, {"old": b"old"})
    files = {f"part-{number}/weights": os.urandom(1000 + number) for number in range(60)} | {"empty": b""}
    put(store, 1, 1, files, mark="2-0")
    node = attempt(tmp_path / "node")
    found = bring(store, node)
    assert there(node) == {f"step-1/{path}": data for path, data in files.items()}
    assert found.manifest is not None and found.manifest["name"] == "step-1"
    assert {line["sha256"] for line in found.relied} == set(map(sha256_bytes, files.values()))
    assert not Path(node.path("spool", "restored")).exists()


def test_a_large_file_comes_in_parallel_and_is_checked(store: Store, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 40
    put(store, 1, 0, {"weights": data})
    node = attempt(tmp_path / "node")
    bring(store, node)
    assert there(node) == {"step-0/weights": data}


def test_what_came_late_from_a_superseded_attempt_is_not_restored(store: Store, tmp_path: Path) -> None:
    claims.take(store, attempt(tmp_path / "one", 1), True, owner="o1")
    put(store, 1, 0, {"a": b"counts"})
    claims.take(store, attempt(tmp_path / "two", 2), True, owner="o2")
    put(store, 1, 1, {"a": b"late"})
    node = attempt(tmp_path / "three", 3)
    bring(store, node)
    assert there(node) == {"step-0/a": b"counts"}


DAMAGES: dict[str, Callable[[Store, str], None]] = {
    "a flipped bit": lambda store, blob: store.put(blob, b"neW"),
    "a missing blob": lambda store, blob: store.delete(blob),
    "one that is too short": lambda store, blob: store.put(blob, b"ne"),
    "an empty one": lambda store, blob: store.put(blob, b""),
    "no manifest": lambda store, _: store.put(keys.checkpoint(RUN, 1, 1), b"{"),
    "a list": lambda store, _: store.put(keys.checkpoint(RUN, 1, 1), b"[]"),
    "a way out": lambda store, _: store.put(
        keys.checkpoint(RUN, 1, 1),
        b'{"name": "x", "kind": "tree", "bytes": 0, "files": [{"path": "../../../out", "link": "x"}]}',
    ),
    "a deleted manifest": lambda store, _: store.delete(keys.checkpoint(RUN, 1, 1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_and_nothing_of_it_is_relied_on(store: Store, tmp_path: Path, damage: str) -> None:
    put(store, 1, 0, {"a": b"old", "same": b"same"})
    key = put(store, 1, 1, {"a": b"new", "same": b"same"})
    node = attempt(tmp_path / "node")
    claim = claims.take(store, node, True, owner="o2")
    DAMAGES[damage](store, keys.blob(RUN, sha256_bytes(b"new")))
    found = restore(store, node, claim)
    assert there(node) == {"step-0/a": b"old", "step-0/same": b"same"}
    assert list(found.passed) == [key]
    assert found.relied == [], "what was damaged is sent again, even where its key is known"
    assert not (tmp_path / "out").is_symlink()


def test_when_none_is_whole_the_run_begins_anew_and_says_so(store: Store, tmp_path: Path) -> None:
    key = put(store, 1, 0, {"a": b"x"})
    store.delete(keys.blob(RUN, sha256_bytes(b"x")))
    node = attempt(tmp_path / "node")
    found = bring(store, node)
    assert (found.manifest, list(found.passed), there(node)) == (None, [key], {})


class Noisy:
    """A store whose first downloads come damaged over the wire."""

    def __init__(self, store: Store, times: int) -> None:
        self.store, self.times = store, times

    def get_file(self, key: str, path: str, **more: Any) -> None:
        if self.times:
            self.times -= 1
            raise IntegrityError("other bytes")
        self.store.get_file(key, path, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_bytes_that_were_damaged_on_their_way_are_asked_for_again(store: Store, tmp_path: Path) -> None:
    put(store, 1, 0, {"a": b"x"})
    node = attempt(tmp_path / "node")
    found = bring(Noisy(store, 1), node)  # type: ignore[arg-type]
    assert there(node) == {"step-0/a": b"x"} and not found.passed


RESTORES = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from launcher.runner.attempt import AttemptError
from tests.test_restore import attempt, bring, stores
node = attempt(Path(sys.argv[3]))
try:
    bring(stores.open(sys.argv[2]), node)
except AttemptError as e:
    print(e, os.listdir(node.path("checkpoints")), os.listdir(node.path("spool")))
"""


def test_the_lease_is_renewed_while_much_is_brought_back(store: Store, tmp_path: Path) -> None:
    node = attempt(tmp_path / "node")
    node.times["heartbeat_s"] = 0.05
    outbox = Outbox(node)
    outbox.opened = store
    key = keys.heartbeat(RUN, 2)
    with renewed(node, outbox):
        first = wait_for(lambda: store.exists(key) and store.get(key))
        wait_for(lambda: store.get(key) != first)
    assert json.loads(first)["every_s"] == 0.05


def test_a_store_that_is_back_in_time_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("launcher.runner.standing.PAUSE_S", 0.01)
    node = attempt(tmp_path / "node")
    answers: list[Any] = [UnreachableError("no answer"), UnreachableError("no answer"), "there"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert patiently(node, Turn(node), ask) == "there"
    node.times["restore_s"] = 0.0
    answers[:] = [UnreachableError("no answer")] * 9
    with pytest.raises(AttemptError, match="the run's checkpoints can't be read: no answer"):
        patiently(node, Turn(node), ask)
    assert len(answers) > 5


@pytest.mark.parametrize("known", [True, False], ids=["beforehand", "on the way"])
def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path, known: bool) -> None:
    """In a file system of its own, which an unprivileged user may mount in a namespace of its own."""
    store, node = stores.open(str(tmp_path / "store")), tmp_path / "node"
    node.mkdir()
    key = put(store, 1, 0, {"a": b"x" * 3_000_000})
    if not known:
        store.put(key, json.dumps({**json.loads(store.get(key)), "bytes": 1_000_000}).encode())
    root = str(Path(__file__).parents[1])
    args = [str(node), sys.executable, "-c", RESTORES, root, str(tmp_path / "store"), str(node)]
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    try:
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, *args]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("unshare (util-linux) is not installed")
    if "unshare: " in done.stderr or "mount: " in done.stderr:
        pytest.skip(f"no user namespace: {done.stderr}")
    assert "the checkpoint step-0 needs " in done.stdout and "and the disk of" in done.stdout, done.stderr
    assert "free some and start the run again" in done.stdout and "[] []" in done.stdout


def test_how_far_it_is_is_told_when_it_takes_long(capfd: pytest.CaptureFixture[str]) -> None:
    with arrival.Arrival("step-40", 2, 4_000_000_000) as meter:
        meter.moved(1_200_000_000)
        meter.next_at = 0.0
        meter.moved(1)
        meter.moved(1)
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "restoring the checkpoint step-40: 0 of 2 files, 1.2 of 4.0 GB" in said


# what was held on this node's disk ------------------------------------------------------------------------------


def hold(node: Attempt, number: int, seq: int, data: bytes, sealed: bool = True) -> Path:
    """Lay down what a killed runner had held: a file `last.pt`."""
    folder = Path(node.path("spool", "held", f"{number:04d}-{seq:08d}"))
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes(data)
    line = {"path": "last.pt", "mode": "0644", "size": len(data), "sha256": sha256_bytes(data)}
    told = {"version": 1, "name": "last.pt", "kind": "file", "attempt": number, "seq": seq, "bytes": len(data)}
    if sealed:
        (folder / "manifest.json").write_text(json.dumps({**told, "files": [line]}))
    return folder


def test_what_is_held_here_and_newer_is_taken(store: Store, tmp_path: Path) -> None:
    put(store, 1, 0, {"a": b"stored"})
    node = attempt(tmp_path / "node")
    hold(node, 1, 1, b"older")
    hold(node, 1, 2, b"newest")
    found = bring(store, node)
    assert found.held and there(node) == {"last.pt": b"newest"}
    assert found.relied == []


def test_what_was_held_here_stays_until_the_store_has_one(store: Store, tmp_path: Path) -> None:
    """The attempt that goes on from it may be killed, too, before it has stored anything."""
    put(store, 1, 0, {"a": b"stored"})
    node = attempt(tmp_path / "node")
    folder = hold(node, 1, 1, b"held")
    found = bring(store, node)
    (tmp_path / "node" / "checkpoints" / "last.pt").unlink()
    again = bring(store, node)
    assert found.held == again.held == str(folder) and there(node) == {"last.pt": b"held"}
    holding.sweep(node, but=again.held)
    assert (folder / "manifest.json").exists()
    holding.sweep(node)
    assert not folder.exists() and there(node) == {"last.pt": b"held"}


@pytest.mark.parametrize("why", ["older", "changed", "not sealed", "of a later attempt", "a file more", "no manifest"])
def test_what_is_held_here_is_not_taken_when_it_is(store: Store, tmp_path: Path, why: str) -> None:
    put(store, 1, 5, {"a": b"stored"})
    node = attempt(tmp_path / "node")
    number, seq = {"older": (1, 4), "of a later attempt": (2, 9)}.get(why, (1, 6))
    folder = hold(node, number, seq, b"held", sealed=why != "not sealed")
    if why == "changed":
        (folder / "last.pt").write_bytes(b"h3ld")
    elif why == "a file more":
        (folder / "last.pt").unlink()
        (folder / "last.pt").mkdir()
        (folder / "last.pt" / "x").write_bytes(b"held")
    elif why == "no manifest":
        (folder / "manifest.json").write_text("[]")
    found = bring(store, node)
    assert not found.held and there(node) == {"step-5/a": b"stored"}


# with a runner --------------------------------------------------------------------------------------------------

SAVE = """
f = os.environ['LAUNCHER_CHECKPOINT_DIR']
print(sorted(os.listdir(f)))
open(f + '/new.tmp', 'w').write('state'); os.rename(f + '/new.tmp', f + '/saved')
if os.environ['LAUNCHER_ATTEMPT'] == '1':
  while True: time.sleep(0.1)
"""


def test_what_the_store_never_got_is_not_lost_on_the_same_node(tmp_path: Path) -> None:
    """Killed while the store was away: the checkpoint was held, so the next attempt goes on from it, and ships it."""
    bench = Bench(tmp_path / "run", RUN)
    (bench.root / "away").write_text("a file, no folder")
    with bench.start(bench.script(SAVE), store=f"file://{bench.root}/away") as process:
        wait_for(lambda: list((bench.folder / "spool" / "held").glob("*/manifest.json")))
        process.kill()
        process.communicate()
    end_of(bench)
    done = bench.go(list(bench.record().argv), 2, claim="now")
    assert done.stdout == b"['saved']\n", done.stderr
    [restored] = bench.events("restored")
    assert restored["held"] is True and restored["of_attempt"] == 1
    assert bench.events("checkpoint")[0]["attempt"] == 2, "it gets into the store now"


def end_of(bench: Bench) -> None:
    """End the command that a killed runner left behind."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == bench.cwd:
                os.kill(int(path.parent.name), 9)
        except OSError:
            continue


def test_a_damaged_checkpoint_is_sent_again_when_its_content_comes_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", RUN)
    script = (
        "f = os.environ['LAUNCHER_CHECKPOINT_DIR']\nprint(sorted(os.listdir(f)))\n"
        "for n in '12':\n  open(f + '/new.tmp', 'w').write(n); os.rename(f + '/new.tmp', f'{f}/{n}'); time.sleep(0.4)\n"
    )
    argv = bench.script(script)
    bench.go(argv)
    blob = keys.blob(RUN, sha256_bytes(b"2"))
    bench.store.put(blob, b"3")
    assert bench.go(argv, 2).stdout == b"['1']\n"
    bench.go(argv, 3)
    assert [event["name"] for event in bench.events("restored")] == ["1", "2"], "attempt 2 has made it whole again"


def test_an_attempt_that_is_asked_to_stop_while_it_waits_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", RUN)
    one = attempt(tmp_path / "elsewhere", 1)
    claims.take(bench.store, one, True, owner="another node")
    with bench.start(bench.script("print('ran')"), 2, times={"lease_s": 60.0}) as process:
        assert process.stderr is not None
        assert b"attempt 1 on" in process.stderr.readline()
        process.terminate()
        out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, out) == (125, b"")
    assert b"asked to stop while waiting for attempt 1" in err


def test_a_superseded_attempt_does_not_begin(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", RUN)
    claims.take(bench.store, attempt(tmp_path / "elsewhere", 3), True, owner="another node")
    done = bench.go(bench.script("print('ran')"), 2)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"superseded by attempt 3" in done.stderr
