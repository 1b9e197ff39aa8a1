"""A small training that must come to one end however often it is killed: a chain of sha256 over its steps.

Run as a script by the runner: `chain.py STEPS EVERY PACE_S DIARY`. It saves a checkpoint every EVERY steps, of many
sizes, in each way that counts: renamed files, renamed folders, files written in their place. Everything in a checkpoint
follows from its step, so that one that isn't whole is found out by whoever loads it. The diary outlives a kill.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

KIB = 1 << 10
SIZES = (KIB, KIB, 5 * KIB, 40 * KIB, 40 * KIB, 300 * KIB, 300 * KIB, 2 << 20)
RARE = ((7, 8 << 20), (31, 32 << 20))  # every 7th, every 31st
KINDS = ("renamed", "folder", "in-place")
HURRY = Path("hurry")  # where it runs: who makes this file wants the end soon
OWN = 2  # so many it leaves in its folder


class BrokenError(Exception):
    """A checkpoint is not what its step says."""


@functools.cache
def links(steps: int) -> tuple[bytes, ...]:
    """Return the states after 0, 1, ... steps."""
    found = [b"\0" * 32]
    for step in range(steps):
        found.append(hashlib.sha256(found[-1] + step.to_bytes(8, "big")).digest())
    return tuple(found)


def final(steps: int) -> str:
    return links(steps)[steps].hex()


def size_of(number: int) -> int:
    """Return the size of the checkpoint with a number, in bytes."""
    return next((size for often, size in reversed(RARE) if number % often == often - 1), SIZES[number % len(SIZES)])


def filler(state: bytes, size: int) -> bytes:
    return hashlib.shake_256(state).digest(size)


def parts(step: int, state: bytes, number: int) -> dict[str, bytes]:
    """Return the files of a checkpoint."""
    size, kind = size_of(number), KINDS[number % len(KINDS)]
    head = json.dumps({"step": step, "state": state.hex(), "number": number}).encode() + b"\n"
    data = filler(state, size)
    if kind == "folder":
        return {"state": head, "weights/0": data[: size // 3], "weights/1": data[size // 3 :]}
    return {"": head + data}


def save(folder: Path, step: int, state: bytes, number: int) -> str:
    """Save a checkpoint; return how."""
    kind, files = KINDS[number % len(KINDS)], parts(step, state, number)
    place = folder / f"step-{step:06d}"
    if kind == "in-place":
        data = files[""]
        with place.open("wb") as out:
            for at in range(4):
                out.write(data[len(data) * at // 4 : len(data) * (at + 1) // 4])
                out.flush()
                time.sleep(0.01)
        return kind
    part = place.with_suffix(".tmp")
    for path, data in files.items():
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        (part / path if path else part).write_bytes(data)
    part.rename(place)
    return kind


def load(place: Path, steps: int) -> int:
    """Return the step of a checkpoint. Raises BrokenError unless every byte is what it must be."""
    found = {""} if place.is_file() else {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    try:
        told = json.loads((place / "state" if place.is_dir() else place).open("rb").readline())
        step, number = int(told["step"]), int(told["number"])
        wanted = parts(step, links(steps)[step], number)
    except (OSError, ValueError, KeyError, IndexError) as e:
        raise BrokenError(f"{place}: {e}") from e
    for path in found | set(wanted):
        if path not in found or path not in wanted or (place / path).read_bytes() != wanted[path]:
            raise BrokenError(f"{place}: {path or 'the file'} is not whole")
    if place.name != f"step-{step:06d}":
        raise BrokenError(f"{place} is of step {step}")
    return step


class Diary:
    """Lines that nobody's end takes back: each is one write."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, *words: object) -> None:
        os.write(self.descriptor, (" ".join(map(str, (*words, f"{time.time():.3f}"))) + "\n").encode())


def forget_older(folder: Path) -> None:
    for old in sorted(folder.glob("step-[0-9]*[0-9]"))[:-OWN]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def train(steps: int, every: int, pace_s: float, diary: Diary) -> None:
    folder, out = Path(os.environ["LAUNCHER_CHECKPOINT_DIR"]), Path(os.environ["LAUNCHER_OUTPUT_DIR"])
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    try:
        begin = max((load(place, steps) for place in there), default=0)
    except BrokenError as e:
        diary.note("broken", str(e).replace(" ", "_"))
        raise
    diary.note("start", begin)
    state = links(steps)[begin]
    for step in range(begin, steps):
        state = hashlib.sha256(state + step.to_bytes(8, "big")).digest()
        time.sleep(pace_s)
        if (step + 1) % every == 0:
            kind = save(folder, step + 1, state, (step + 1) // every)
            diary.note("saved", step + 1, kind)
            print(f"step {step + 1} saved", flush=True)
            forget_older(folder)
            pace_s = 0.0 if HURRY.exists() else pace_s
    (out / "digest").write_text(state.hex())
    diary.note("end", state.hex())


def main() -> None:
    steps, every, pace_s, path = sys.argv[1:]
    train(int(steps), int(every), float(pace_s), Diary(path))


if __name__ == "__main__":
    main()
