"""What a box tells whoever listens: `python -I -m launcher.box.stream` reads one JSON request, and writes frames.

    {"call": "follow", "shared": folder, "run": id, "since": offset}     output and states, until the run is over
    {"call": "objects", "shared": folder, "run": id, "known": ...}       what is new in its store (launcher.box.giving)

Frames of `follow`: `out` (s, a, t as launcher.box.output has them; `at` is where to go on), `state`, `store` (the box's
store has changed), `beat`, and `end`. The process ends when its stdin does: then nobody listens any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.box import output, state
from launcher.box.frames import PAYLOAD_BYTES, Sender
from launcher.box.model import State
from launcher.errors import LauncherError

LOOK_S = 0.03  # between two looks at the output: one stat(2)
STORE_S = 0.5  # between two looks at the store
ALIVE_S = 1.0  # between two looks at who holds the run
WORD_BYTES = 64 << 20  # of a request: the keys that are known


def main() -> None:
    """Answer one request. What goes wrong is a frame `error`."""
    request = json.loads(sys.stdin.buffer.readline(WORD_BYTES))
    threading.Thread(target=end_with_listener, daemon=True).start()
    sender = Sender()
    with contextlib.suppress(BrokenPipeError):
        try:
            answer(request, sender)
        except (LauncherError, OSError, ValueError, KeyError) as e:
            from launcher.remote.agent import error_json

            known = e if isinstance(e, LauncherError) else LauncherError(f"{type(e).__name__}: {e}")
            sender.send("error", error=error_json(known))


def answer(request: Mapping[str, Any], sender: Sender) -> None:
    run = state.folder(str(Path(request["shared"]).expanduser()), request["run"])
    if request["call"] == "follow":
        Follow(run, int(request["since"]), sender).work()
        return
    from launcher.box.giving import give

    give(run, request, sender)


def end_with_listener() -> None:
    """Run in a thread: end this process when nobody listens any more."""
    while select.select([0], [], []) and os.read(0, 1):
        pass
    os._exit(0)


class Follow:
    """Tells of one run, from an offset in its output on."""

    def __init__(self, run: Path, since: int, sender: Sender) -> None:
        self.run, self.since, self.sender = run, since, sender
        self.size = -1
        self.state: State | None = None
        self.stamp: tuple[int, ...] = ()
        self.changed: tuple[int, ...] = ()
        self.looked = {"state": 0.0, "store": 0.0}
        self.folder = relayed(run)

    def work(self) -> None:
        """Tell until the run is over. Raises BrokenPipeError, and TargetError when there is no such run."""
        while True:
            over = self.tell_state()
            self.tell_store()
            self.tell_output()
            if over:
                self.sender.send("end", at=self.since)
                return
            self.sender.beat()
            time.sleep(LOOK_S)

    def tell_state(self) -> bool:
        """Tell the state if it has changed; return whether the run is over."""
        stamp = stamp_of(self.run / state.STATE)
        if stamp != self.stamp or self.due("state", ALIVE_S):
            self.stamp = stamp
            now = state.read(self.run)
            if now != self.state:
                self.state = now
                self.sender.send("state", state=now.to_json())
        return self.state is not None and self.state.over

    def tell_output(self) -> None:
        """Tell what the output has new, whole frames only."""
        size = size_of(self.run / output.NAME)
        if size == self.size:
            return
        for frame in output.read(self.run / output.NAME, self.since):
            self.tell_frame(frame)
            self.since = frame.next
        self.size = size

    def tell_frame(self, frame: output.Frame) -> None:
        """Send a frame, in pieces where it is long: only the last one says where to go on."""
        pieces = range(0, max(1, len(frame.data)), PAYLOAD_BYTES)
        for start in pieces:
            last = start == pieces[-1]
            place = {"at": frame.next} if last else {}
            told = {"s": frame.stream, "a": frame.attempt, "t": frame.when, **place}
            self.sender.send("out", frame.data[start : start + PAYLOAD_BYTES], **told)

    def tell_store(self) -> None:
        """Say when the box's store has something new of the run."""
        if self.folder is None or not self.due("store", STORE_S):
            return
        changed = changes(self.folder)
        if changed != self.changed:
            self.changed = changed
            self.sender.send("store")

    def due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now - self.looked[what] < every_s:
            return False
        self.looked[what] = now
        return True


def relayed(run: Path) -> Path | None:
    """Return the folder of a run in the box's own store; None where the box writes to the store itself."""
    from launcher.store import folder_of, keys

    order = state.order(run)
    folder = folder_of(order.store.url) if order.ship == "relay" else None
    return Path(folder, keys.run(order.run)) if folder else None


def changes(folder: Path) -> tuple[int, ...]:
    """Return what changes when an object is made: the times of the folders in which every stage ends."""
    parts = ("", "events", "logs", "metrics", "heartbeats", "claims", "checkpoints", "outputs")
    found = []
    for part in parts:
        found.append(stamp_of(folder / part))
        with contextlib.suppress(OSError), os.scandir(folder / part) as entries:
            found += [stamp_of(Path(x.path)) for x in sorted(entries, key=lambda x: x.name) if part and x.is_dir()]
    return tuple(time for one in found for time in one)


def stamp_of(path: Path) -> tuple[int, ...]:
    try:
        now = path.stat()
    except OSError:
        return ()
    return (now.st_mtime_ns, now.st_ino)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


if __name__ == "__main__":
    main()
