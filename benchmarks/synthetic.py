"""Writes stores full of runs that never were, with records as real ones have them, for the benchmark of listing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from launcher.runner import fold
from launcher.runner.clock import stamp
from launcher.runner.metrics import Summary
from launcher.store import keys
from launcher.store.objects import Store

HOST = {
    "kernel": "Linux 6.1.0-18-amd64",
    "architecture": "x86_64",
    "cpu": "AMD EPYC 7763 64-Core Processor",
    "cpus": 128,
    "cpus_allowed": 16,
    "memory_bytes": 540_000_000_000,
    "memory_limit_bytes": 64_000_000_000,
    "driver": "550.54.15",
    "cuda": "12.4",
    "gpus": [{"model": "NVIDIA A100-SXM4-80GB", "uuid": f"GPU-{n}", "capability": "8.0"} for n in range(4)],
}
STATES = ("succeeded",) * 88 + ("failed",) * 8 + ("killed",) * 4
LASTS_S, SPACING_S = 5400, 300


def objects(count: int, now: datetime, going: int = 20, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the objects of `count` runs that have ended, and `going` more that are running now."""
    dice = random.Random(seed)
    first = now - timedelta(seconds=count * SPACING_S + LASTS_S + 3600)
    for number in range(count):
        yield from run_objects(number, first + timedelta(seconds=number * SPACING_S), dice, dice.choice(STATES))
    for number in range(going):
        yield from run_objects(count + number, now - timedelta(seconds=600 + number), dice, "running")


def run_objects(number: int, queued: datetime, dice: random.Random, state: str) -> Iterator[tuple[str, bytes]]:
    """Yield what one run of one attempt leaves in a store, but for blobs, outputs and most of its logs."""
    name = f"experiment-{number % 25:02}"
    run = f"{queued:%Y%m%d-%H%M%S}-{name}-{number:06}"
    job = job_of(run, name, dice)
    rows = [
        {"step": step, "loss": 2.0 / (1 + step / 50) + dice.random() / 10, "lr": 1e-3} for step in range(0, 500, 25)
    ]
    rows[-1]["val_loss"] = rows[-1]["loss"] + 0.1
    summary = Summary()
    summary.add_lines([json.dumps(row).encode() for row in rows])
    events = list(events_of(queued, state, summary))
    yield keys.journal(moment(queued), 1, run), b""
    yield keys.job(run), json.dumps(job).encode()
    for event in events:
        yield keys.event(run, 1, event["seq"]), json.dumps(event).encode()
    yield keys.metric(run, 1, 0), b"\n".join(json.dumps(row).encode() for row in rows)
    yield keys.log(run, 1, 0), b"".join(f"{moment(queued)} stdout F step {n}\n".encode() for n in range(20))
    last = datetime.now(timezone.utc) if state == "running" else queued + timedelta(seconds=LASTS_S)
    yield keys.heartbeat(run, 1), json.dumps({"time": moment(last), "every_s": 20, "rows": len(rows)}).encode()
    if state != "running":
        yield keys.record(run), json.dumps(fold.fold(job, events, {1: summary}), indent=1).encode()


def job_of(run: str, name: str, dice: random.Random) -> dict[str, Any]:
    params = {
        "lr": dice.choice([1e-4, 3e-4, 1e-3]),
        "batch": dice.choice([32, 64, 128]),
        "layers": 12,
        "seed": dice.randrange(10**6),
    }
    digests = {key: f"{dice.getrandbits(256):064x}" for key in ("lock", "image", "code")}
    argv = ["python", "train.py", *(f"--{key}={value}" for key, value in params.items())]
    return {"version": 1, "run": run, "name": name, "argv": argv, "params": params, "seed": 0, **digests}


def events_of(queued: datetime, state: str, summary: Summary) -> Iterator[dict[str, Any]]:
    code = {"succeeded": 0, "failed": 1}.get(state)
    told: list[tuple[int, dict[str, Any]]] = [
        (0, {"kind": "queued", "who": "someone", "code": {"commit": "c0ffee" * 6, "dirty": False}}),
        (30, {"kind": "started", "runner": "0.1.0", "heartbeat_s": 20}),
        (31, {"kind": "host", "facts": HOST}),
        (600, {"kind": "checkpoint", "name": "step-100.pt", "number": 0, "bytes": 10**9, "files": 1, "key": "k"}),
    ]
    if state != "running":
        ended = {"kind": "ended", "code": code, "signal": None if code is not None else "SIGKILL", "reason": None}
        closed = {"kind": "closed", "missing": [], "log_bytes_lost": 0, "metrics": summary.as_json()}
        told += [(LASTS_S, ended), (LASTS_S + 5, closed)]
    for seq, (after_s, facts) in enumerate(told):
        yield {**facts, "time": moment(queued + timedelta(seconds=after_s)), "attempt": 1, "seq": seq}


def moment(when: datetime) -> str:
    return stamp(int(when.timestamp() * 1e9))


def fill(store: Store, count: int) -> int:
    """Write a store's runs; return how many objects they are. A folder is written as files: a hundred thousand."""
    made = objects(count, datetime.now(timezone.utc))
    if store.folder is None:
        total = 0

        def counted() -> Iterator[tuple[str, bytes]]:
            nonlocal total
            for total, one in enumerate(made, 1):  # noqa: B007
                yield one

        store.put_many(counted())
        return total
    total = 0
    for total, (key, data) in enumerate(made, 1):  # noqa: B007
        path = Path(store.folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return total
