"""Many processes of a node want inputs at once, in less room than they take, and some are killed: nobody sees other
bytes than the right ones, and the limit holds."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.cache import Cache
from launcher.inputs import add, pin, room, stage
from launcher.inputs.shelf import Shelf
from launcher.spec.model import DataSpec

LIMIT = 2 << 20
CHILD = """
import json, random, sys, time
from pathlib import Path
from launcher import store as stores
from launcher.cache import Cache
from launcher.errors import DiskFullError
from launcher.inputs import stage
from launcher.lock import DataPin
root, seed, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
pins = [DataPin(**told) for told in json.loads((root / "pins.json").read_text())]
store, cache, chance = stores.open_to_read(str(root / "store")), Cache(root / "cache"), random.Random(seed)
end, done = time.monotonic() + seconds, 0
while time.monotonic() < end or not done:
    pin = chance.choice(pins)
    try:
        staged = stage(pin, None, cache, store=store)
    except DiskFullError:  # the others hold theirs
        time.sleep(0.01)
        continue
    files = {path.name: path.read_bytes() for path in staged.path.iterdir()}
    assert files.pop("same") == b"same" * 5000 and len(files) == 20
    assert all(data == f"{pin.name}/{name}".encode() * 3000 for name, data in files.items()), pin.name
    time.sleep(0.02 * chance.random())
    staged.held.release()
    done += 1
"""


@pytest.mark.slow
def test_many_processes_share_little_room(tmp_path: Path) -> None:
    own, store, pins = Cache(tmp_path / "own"), stores.open(str(tmp_path / "store")), []
    for name in "abcdef":
        folder = tmp_path / name
        folder.mkdir()
        for number in range(20):
            (folder / str(number)).write_bytes(f"{name}/{number}".encode() * 3000)
        (folder / "same").write_bytes(b"same" * 5000)
        source = DataSpec(name=name, path=folder)
        pinned = pin(source, own)
        add(pinned, stage(pinned, source, own), source, own, store)
        pins.append(dataclasses.asdict(pinned))
    (tmp_path / "pins.json").write_text(json.dumps(pins))

    seed = random.randrange(1 << 30)
    living = [child(tmp_path, seed + number, 5.0) for number in range(3)]
    chance = random.Random(seed)
    for number in range(4):
        killed = child(tmp_path, seed + 100 + number, 60.0)
        time.sleep(chance.uniform(0.5, 1.2))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert [process.wait(60) for process in living] == [0, 0, 0], f"seed {seed}"

    shelf = Shelf(tmp_path / "cache" / "inputs")
    assert room.used(shelf) <= LIMIT + max(told["size"] for told in pins)  # two may have counted the same room
    for entry in room.entries(shelf):
        held = shelf.find(entry.digest)
        assert not entry.held and held, f"seed {seed}: an entry that isn't whole"
        held.release()
    room.trim(shelf, 1 << 40)
    assert room.used(shelf) == 0 and not list((shelf.root / "partial").iterdir())


def child(root: Path, seed: int, seconds: float) -> subprocess.Popen[bytes]:
    env = {**os.environ, "LAUNCHER_INPUTS_MAX": "2M", "LAUNCHER_INPUTS": str(root / "cache" / "inputs")}
    return subprocess.Popen([sys.executable, "-c", CHILD, str(root), str(seed), str(seconds)], env=env)
