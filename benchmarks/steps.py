"""What shipping costs the training: step times of a loop on two cores that saves a large file every few seconds.

    python -m benchmarks steps
    python benchmarks/steps.py [--gib 1] [--every 5] [--seconds 60] [--rounds 2] [--store folder|moto|URL] [--json]

Three ways, by turns, in one run: plain `python`; under the runner, saving where nobody looks; under the runner, saving
into the checkpoint folder. A step is a fixed amount of hashing in two threads, so it takes both cores wholly: what
the runner uses is missing to the training. Saving itself is told apart. A server on this machine competes as well,
which a real one would not; it runs with the lowest weight. The limit that the project set itself: 3 %.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.attempts import make_bundle  # noqa: E402  (the same bundle that the tests use)

LIMIT = 1.03
TICKS = os.sysconf("SC_CLK_TCK")
WAYS = ("plain", "off", "on")
LOOP = """
import hashlib, json, os, sys, threading, time
folder, gib, every, seconds, out = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
folder = folder or os.environ['LAUNCHER_CHECKPOINT_DIR']
block, data = bytes(1 << 20), bytearray(os.urandom(1 << 20))
def work():
    digest = hashlib.sha256()
    for _ in range(8): digest.update(block)
def step():
    other = threading.Thread(target=work); other.start(); work(); other.join()
def save(number):
    name = os.path.join(folder, f'step-{number}.bin')
    with open(name + '.tmp', 'wb', buffering=0) as stream:
        for at in range(int(gib * 1024)):
            data[:8] = (number << 32 | at).to_bytes(8, 'little'); stream.write(data)
    os.rename(name + '.tmp', name)
    return name
steps, saves, kept, begun = [], [], [], time.perf_counter()
save_at = begun + every
while time.perf_counter() - begun < seconds:
    t = time.perf_counter(); step(); steps.append(time.perf_counter() - t)
    if time.perf_counter() > save_at:
        t = time.perf_counter(); kept.append(save(len(saves))); saves.append(time.perf_counter() - t)
        save_at = time.perf_counter() + every
        for name in kept[:-2]: os.unlink(name)
        kept = kept[-2:]
json.dump({'steps': steps, 'saves': saves}, open(out, 'w'))
for name in kept: os.unlink(name) if sys.argv[1] else None
"""


@dataclass
class Side:
    """What one way took, over all rounds: seconds of steps and saves, CPU seconds and peak MB of the runner."""

    steps: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    stored: list[dict[str, Any]] = field(default_factory=list)
    flush_s: list[float] = field(default_factory=list)

    @property
    def mean_ms(self) -> float:
        return statistics.fmean(self.steps) * 1000


class Sampler:
    """Looks at a process while it lives: CPU seconds by kind of thread, and its peak memory."""

    def __init__(self, pid: int) -> None:
        self.pid, self.cpu, self.peak_mb = pid, {"all": 0.0, "library": 0.0, "main": 0.0}, 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        while not self.over.wait(0.1):
            try:
                self.look()
            except (OSError, IndexError):  # it has ended
                return

    def look(self) -> None:
        self.cpu["all"] = spent(Path(f"/proc/{self.pid}/stat"))[1]
        threads = [(path.parent.name, *spent(path)) for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        self.cpu["main"] = sum(seconds for tid, _, seconds in threads if tid == str(self.pid))
        library = sum(seconds for _, name, seconds in threads if "python" not in name)
        self.cpu["library"] = max(self.cpu["library"], library)
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.peak_mb = max(self.peak_mb, int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def spent(path: Path) -> tuple[str, float]:
    """Return (name, CPU seconds) of a process or thread (proc_pid_stat(5), fields 14 and 15)."""
    head, _, tail = path.read_text().rpartition(")")
    fields = tail.split()
    return head.partition("(")[2], (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def server(kind: str, folder: Path) -> Iterator[tuple[Any, Any]]:
    """Give the store as attempt.json has it, and as this process sees it: (told, opened)."""
    from launcher import store as stores
    from launcher.store.access import Access

    if kind == "folder":
        yield f"file://{folder}/store", stores.open(str(folder / "store"))
    elif kind == "moto":
        from tests.object_stores import moto, new_bucket

        with moto(folder) as started:
            bucket = new_bucket(started)
            found = Access(bucket.url, bucket.settings, str(bucket.write_secrets(folder / "secrets.json")))
            give_way()
            yield found.to_json(), stores.open(found)
    else:
        from launcher import access

        own = access.of(kind)
        secrets = folder / "secrets.json"
        told = own.to_json()
        if access.write_secrets(own, secrets):
            told["secrets"] = str(secrets)
        yield told, access.open(kind)


def give_way() -> None:
    """Give the servers that this process has started the lowest weight, as far as their session allows it."""
    for pid in Path("/proc/self/task").joinpath(str(os.getpid()), "children").read_text().split():
        os.setpriority(os.PRIO_PROCESS, int(pid), 19)
    if os.getpid() == os.getsid(0):
        Path("/proc/self/autogroup").write_text("19")


def one(way: str, number: int, folder: Path, told: argparse.Namespace, store: Any, side: Side) -> None:
    """Run the loop once, one way."""
    run = folder / f"run-{number}"
    (run / "elsewhere").mkdir(parents=True)
    (run / "loop.py").write_text(LOOP)
    place = "" if way == "on" else str(run / "elsewhere")
    argv = [sys.executable, str(run / "loop.py"), place, told.gib, told.every, told.seconds, run / "times.json"]
    command = [str(word) for word in argv]
    if way == "plain":
        subprocess.run(command, check=True, start_new_session=True)
    else:
        under_runner(command, run, folder, store, side)
    times = json.loads((run / "times.json").read_text())
    side.steps += times["steps"]
    side.saves += times["saves"]
    shutil.rmtree(run)


def under_runner(command: list[str], run: Path, folder: Path, store: tuple[Any, Any], side: Side) -> None:
    job = {"run": run.name, "name": "steps", "argv": command, "outputs": [], "keep": {"last": 1}}
    attempt = {
        "version": 1,
        "job": job,
        "attempt": 1,
        "store": store[0],
        "cwd": str(run),
        "environment": {"PATH": os.environ["PATH"]},
        "own_session": True,
    }
    (run / "attempt.json").write_text(json.dumps(attempt))
    start = [sys.executable, "-I", "-S", "-B", str(folder / "bundle" / "run.py"), str(run / "attempt.json")]
    process = subprocess.Popen(start, start_new_session=True)
    sampler = Sampler(process.pid)
    if process.wait() != 0:
        raise RuntimeError(f"the runner ended with {process.returncode}")
    sampler.over.set()
    sampler.thread.join()
    ended = time.time()
    side.flush_s.append(ended - (run / "times.json").stat().st_mtime)
    side.peak_mb = max(side.peak_mb, sampler.peak_mb)
    for name, seconds in sampler.cpu.items():
        side.cpu[name] = side.cpu.get(name, 0.0) + seconds
    events = store[1].list(f"runs/{run.name}/events/")
    side.stored += [e for e in map(json.loads, (store[1].get(x.key) for x in events)) if e["kind"] == "checkpoint"]
    for entry in store[1].list(f"runs/{run.name}/"):
        store[1].delete(entry.key)


def compare(told: argparse.Namespace) -> dict[str, Side]:
    sides = {way: Side() for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="launcher-steps-", dir=told.folder) as name:
        folder = Path(name)
        make_bundle(folder / "bundle")
        with server(told.store, folder) as store:
            for turn in range(told.rounds):
                for at, way in enumerate(WAYS if turn % 2 == 0 else WAYS[::-1]):  # so that drift hurts all alike
                    one(way, turn * len(WAYS) + at, folder, told, store, sides[way])
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description="What shipping costs the training.")
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--store", default="folder")
    parser.add_argument("--folder", default=None, help="where to work: a disk with room for ten of the files")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    sides = compare(told)
    rows = [row(way, side, sides) for way, side in sides.items()]
    if told.json:
        print(json.dumps({"store": told.store, "gib": told.gib, "rows": rows}, indent=1))
        return
    show(told, sides, rows)


def row(way: str, side: Side, sides: dict[str, Side]) -> dict[str, Any]:
    return {
        "way": way,
        "step_ms": round(side.mean_ms, 2),
        "median_ms": round(statistics.median(side.steps) * 1000, 2),
        "to_plain": round(side.mean_ms / sides["plain"].mean_ms, 4),
        "to_off": round(side.mean_ms / sides["off"].mean_ms, 4),
        "save_s": round(statistics.fmean(side.saves), 2) if side.saves else None,
        "saved": len(side.saves),
        "stored": len(side.stored),
        "runner_cpu_s": round(side.cpu.get("all", 0.0), 2),
        "peak_mb": round(side.peak_mb, 1),
    }


def show(told: argparse.Namespace, sides: dict[str, Side], rows: list[dict[str, Any]]) -> None:
    print(f"\nSteps with {told.gib:g} GiB saved every {told.every:g} s, two cores, store: {told.store}")
    widths = [max(len(str(line[key])) for line in [{k: k for k in rows[0]}, *rows]) for key in rows[0]]
    for line in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(str(value).ljust(width) for value, width in zip(line.values(), widths, strict=True)).rstrip())
    on = sides["on"]
    hashing, sending = (sum(event[name] for event in on.stored) for name in ("hash_s", "send_s"))
    print(
        f"\nshipping on / off: {rows[2]['to_off']} (limit {LIMIT}). Of {on.cpu.get('all', 0):.1f} CPU seconds of the "
        f"runner, the end included, its main thread took {on.cpu.get('main', 0):.1f}, the store's library "
        f"{on.cpu.get('library', 0):.1f}. Hashing took {hashing:.1f} s of wall time, sending {sending:.1f} s, for "
        f"{len(on.stored)} of {len(on.saves)} checkpoints; {statistics.fmean(on.flush_s):.1f} s of it after the end."
    )


if __name__ == "__main__":
    main()
