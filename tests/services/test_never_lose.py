"""Checkpoints survive SIGKILL at 200 random moments, over an object store whose answers fail, lie and come late.

Everything follows from one seed but the scheduling of processes. LAUNCHER_KILLS, LAUNCHER_SEED, and on a machine that
has other work to do LAUNCHER_SHIPPED_S (how long shipping may take) and LAUNCHER_SIDE_BY_SIDE change it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.digest import sha256_bytes
from launcher.records import leftovers
from launcher.runner import claims
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.uploads import Uploads
from tests import chain
from tests.attempts import Bench
from tests.fault_proxy import Proxy, fault_proxy
from tests.object_stores import Faulty, ObjectStore, behind, empty, forget_settings, new_bucket
from tests.patience import LONG_S

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.alone]

KILLS = int(os.environ.get("LAUNCHER_KILLS", "200"))
SEED = int(os.environ.get("LAUNCHER_SEED", "1"))
SIDE_BY_SIDE = int(os.environ.get("LAUNCHER_SIDE_BY_SIDE", "4"))
KILLS_OF_A_RUN = 25
STEPS, EVERY, PACE_S = 3600, 120, 0.008  # a checkpoint a second, if nothing else is to be done
TIMES = {"ship_s": 0.2, "heartbeat_s": 1.0, "look_s": 0.1, "quiet_s": 0.4, "quiet_folder_s": 0.4, "retry_s": 0.1}
# Shares of the kills, how long at most they are waited for, and since when: the runner's or the command's start.
LIVES = ((0.3, 3.0, "runner"), (0.55, 3.0, "command"), (0.15, 10.0, "command"))
# How long shipping may take: four runs share two cores, and a server that often fails.
SHIPPED_S = float(os.environ.get("LAUNCHER_SHIPPED_S", "4"))
JOB = {"keep": {"last": 3}}


def faults(proxy: Proxy, chance: random.Random) -> None:
    """Let about one request in eight fail. The store is asked again each time."""
    clock = 7200 * chance.choice((-1, 0, 0, 1))
    proxy.fault("cut-request", only="^PUT", chance=0.02, after=chance.randrange(200_000))
    proxy.fault("cut-request", chance=0.01)
    proxy.fault("cut-response", chance=0.02, after=chance.choice((0, 0, 100, 5000)))
    proxy.fault("answer", status=500, code="InternalError", chance=0.03)
    proxy.fault("answer", status=503, code="SlowDown", chance=0.03)
    proxy.fault("flip-request", only="^PUT .*/blobs/", chance=0.06, after=chance.randrange(300))
    proxy.fault("flip-response", only="^GET .*/blobs/", chance=0.04, after=chance.randrange(300))
    proxy.fault("flip-response", only="^GET .*/(claims|checkpoints)/.*json", chance=0.02, after=chance.randrange(300))
    proxy.fault("stall", chance=0.01, seconds=1.5)
    if clock:
        proxy.fault("skew", seconds=clock)


@dataclass(frozen=True, kw_only=True)
class Resume:
    """What a kill has cost. `moved`: the next attempt found an empty folder, as on another node."""

    moved: bool
    lost: int  # finished checkpoints that it did not start from
    age_s: float  # of the oldest of these at the moment of the kill


@dataclass
class Tally:
    """What the kills have cost, in all runs."""

    wanted: int
    kills: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    resumes: list[Resume] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def next_run(self) -> int | None:
        """Return the number of another run; None when there were kills enough."""
        with self.guard:
            self.runs += self.kills < self.wanted
            return self.runs if self.kills < self.wanted else None

    def killed(self) -> bool:
        """Count a kill; return whether there are to be more."""
        with self.guard:
            self.kills += 1
            return self.kills < self.wanted

    def resumed(self, one: Resume) -> None:
        with self.guard:
            self.resumes.append(one)

    def __str__(self) -> str:
        told = [f"{self.kills} kills in {self.runs} runs; of finished checkpoints, an attempt did not start from"]
        for moved, where in ((False, "on the same node"), (True, "on another node")):
            lost = [one.lost for one in self.resumes if one.moved == moved]
            ages = sorted(one.age_s for one in self.resumes if one.moved == moved) or [0.0]
            shares = ", ".join(f"{n}: {lost.count(n)} times" for n in sorted(set(lost)))
            told.append(
                f"  {where}: {shares}; finished {ages[len(ages) // 2]:.1f} s (median), {ages[-1]:.1f} s (max) before"
            )
        told.append(f"  faults: {', '.join(f'{kind} {n}' for kind, n in sorted(self.faults.items()))}")
        return "\n".join(told)


class Trial:
    """One run that is killed over and over; each attempt finds the folder of the last one, or another node's."""

    def __init__(self, root: Path, store: Faulty, seed: int, tally: Tally) -> None:
        self.chance, self.tally, self.seed = random.Random(seed), tally, seed
        root.mkdir(parents=True)
        secrets = str(store.write_secrets(root / "secrets.json"))
        self.way, self.own = store, Access(store.url, store.direct.settings, secrets)
        self.bench = Bench(root / "run", f"run-{seed}", Access(store.url, store.settings, secrets), self.own)
        self.moves = seed % 2 == 1  # to another node each time
        script = shutil.copy(chain.__file__, self.bench.cwd / "chain.py")
        self.diary = root / "diary"
        self.argv = [sys.executable, "-I", str(script), str(STEPS), str(EVERY), str(PACE_S), str(self.diary)]
        self.attempt = self.beginnings = 0

    def __str__(self) -> str:
        return f"LAUNCHER_SEED={SEED}, run {self.seed}, attempt {self.attempt}"

    def start(self) -> Any:
        self.attempt += 1
        self.beginnings = self.begun()
        if self.moves and self.attempt > 1:
            shutil.rmtree(self.bench.folder)
            self.bench.folder.mkdir()
        return self.bench.start(self.argv, self.attempt, job=JOB, times=TIMES, claim="now")

    def go(self) -> None:
        """Kill until there were kills enough, or the run has ended by itself; then see to it that it ends."""
        for _ in range(KILLS_OF_A_RUN):
            with self.start() as process:
                if self.ends_first(process):
                    self.must_be_fine(process)
                    return
                self.kill(process)
            if not self.tally.killed():
                break
        with self.start() as process:
            self.must_be_fine(process)

    def ends_first(self, process: Any) -> bool:
        """Wait for the moment of the kill; return whether the runner has ended before."""
        [(_, longest_s, since)] = self.chance.choices(LIVES, [share for share, _, _ in LIVES])
        moment_s = self.chance.uniform(0, longest_s)
        while since == "command" and self.begun() == self.beginnings and not ends_within(process, 0.02):
            pass
        return ends_within(process, moment_s)

    def begun(self) -> int:
        return self.diary.read_text().count("start ") if self.diary.exists() else 0

    def kill(self, process: Any) -> None:
        """Kill runner and command, in either order, as the end of a node or of its power would."""
        noted = f"killed {self.attempt} {time.time():.3f}\n"
        if self.chance.random() < 0.5:
            kill_commands(self.argv)
        process.kill()
        process.communicate()
        while kill_commands(self.argv):
            time.sleep(0.01)
        with self.diary.open("a") as out:
            out.write(noted)

    def must_be_fine(self, process: Any) -> None:
        _, err = process.communicate(timeout=LONG_S)
        assert process.returncode == 0, f"{self}: {process.returncode}\n{err.decode()[-3000:]}"
        self.resumed_from_whole_and_recent_ones()
        self.came_to_the_same_end()
        self.nothing_is_left_without_a_name()

    def resumed_from_whole_and_recent_ones(self) -> None:
        """Read the diary: no attempt goes back behind another one's beginning, unless it says what was damaged; and of
        what was finished at a kill at most the newest is lost, or what had less than SHIPPED_S to be shipped."""
        killed_at, before, fresh = 0.0, 0, False
        problems = [event["text"] for event in self.bench.events("problem")]
        passed_over = [text for text in problems if text.startswith("damaged checkpoint passed over")]  # and said so
        saved: dict[int, float] = {}  # since the last beginning: when each counted as finished
        for kind, *words in map(str.split, self.diary.read_text().splitlines()):
            assert kind != "broken", f"{self}: {words}"
            if kind == "saved":
                fresh = True
                saved[int(words[0])] = float(words[2]) + (TIMES["quiet_s"] if words[1] == "in-place" else 0.0)
            elif kind == "killed" and fresh:  # it was this one that made them
                killed_at, fresh = float(words[1]), False
            elif kind == "start":
                begin = int(words[0])
                lost = [at for step, at in saved.items() if at <= killed_at and step > begin]
                age_s = killed_at - min(lost, default=killed_at)
                went_back = begin < before
                assert not went_back or passed_over, f"{self}: began at {begin}, not {before}:\n{self.story()}"
                passed_over = passed_over[went_back:]
                assert len(lost) <= 1 or age_s < SHIPPED_S, f"{self}: began at {begin}:\n{self.story()}"
                if killed_at:
                    self.tally.resumed(Resume(moved=self.moves, lost=len(lost), age_s=age_s))
                saved, before = {}, begin

    def story(self) -> str:
        kinds = ("claimed", "restored", "problem", "checkpoint", "superseded")
        events = [event for kind in kinds for event in self.bench.events(kind)]
        lines = [json.dumps(event) for event in sorted(events, key=lambda event: str(event["time"]))]
        return "\n".join([*lines[-40:], *self.diary.read_text().splitlines()[-40:]])

    def came_to_the_same_end(self) -> None:
        record = self.bench.record()
        assert (record.state, record.complete) == ("succeeded", True), f"{self}: {record.missing}"
        assert record.outputs is not None
        digest = self.bench.store.get(keys.output(self.bench.run, self.attempt, "digest")).decode()
        assert digest == chain.final(STEPS), str(self)

    def nothing_is_left_without_a_name(self) -> None:
        """Delete what is named: what stays is what this test itself finds to be of use, and it is whole."""
        store, run = self.bench.store, self.bench.run
        for leftover in leftovers.named(store, run):
            store.delete(leftover.key)
        uploads = Uploads(self.own, self.way.credentials)
        for upload in list(uploads.listed(keys.run(run))):
            uploads.abort(upload)
        client = self.way.direct.client()
        assert not client.list_multipart_uploads(Bucket=self.way.bucket).get("Uploads"), str(self)
        client.close()
        wanted = self.reached()
        there = {entry.key for entry in store.list(keys.run(run)) if not entry.key.startswith(self.notes())}
        assert there == wanted, f"{self}: {sorted(there ^ wanted)[:10]}"
        assert self.bench.record().state == "succeeded"

    def notes(self) -> tuple[str, ...]:
        """Return the prefixes of what is kept as it is."""
        run = self.bench.run
        return (keys.events(run), keys.logs(run), keys.metrics(run), keys.claims(run), f"{keys.run(run)}heartbeats/")

    def reached(self) -> set[str]:
        store, run = self.bench.store, self.bench.run
        counting = claims.counting(store, run)
        mine = [key for key in counting if keys.numbers(key)[0] == self.attempt]  # who commits forgets, or says why not
        if mine and len(counting) > int(JOB["keep"]["last"]):
            troubles = [event["text"] for event in self.bench.events("problem") if event["attempt"] == self.attempt]
            assert [text for text in troubles if text.startswith("keep: ")], f"{self}: {counting}\n{self.story()}"
        found = {keys.job(run), keys.record(run), *counting}
        for attempt in range(1, self.attempt + 1):  # one that was killed after its outputs leaves them whole
            manifest = keys.output_manifest(run, attempt)
            if store.exists(manifest):
                files = json.loads(store.get(manifest))["files"]
                found |= {manifest, *(keys.output(run, attempt, file["path"]) for file in files)}
        assert keys.output_manifest(run, self.attempt) in found
        for key in counting:
            for file in json.loads(store.get(key))["files"]:
                blob = keys.blob_of(run, file)
                assert sha256_bytes(store.get(blob)) == file["sha256"], f"{self}: {key}"
                found.add(blob)
        return found


def kill_commands(argv: list[str]) -> int:
    """Kill the processes that were started by these words; return how many there were."""
    wanted, found = "\0".join([*argv, ""]).encode(), 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cmdline").read_bytes() == wanted:
                os.kill(int(place.name), signal.SIGKILL)
                found += 1
    return found


def ends_within(process: Any, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def run_one_after_another(root: Path, server: ObjectStore, tally: Tally) -> None:
    while (number := tally.next_run()) is not None:
        seed, bucket = SEED * 1000 + number, new_bucket(server)
        with fault_proxy(server.endpoint, seed=seed) as proxy:
            trial = Trial(root / str(seed), behind(bucket, proxy), seed, tally)
            faults(proxy, trial.chance)
            trial.go()
            tally.faults.update(line.split()[0] for line in proxy.log)
        shutil.rmtree(root / str(seed))
        empty(bucket)


def kill_over_and_over(root: Path, server: ObjectStore, kills: int) -> Tally:
    """Kill runs, some side by side, and hold of each what must hold. Return what it has cost."""
    tally = Tally(kills)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for done in [pool.submit(run_one_after_another, root, server, tally) for _ in range(SIDE_BY_SIDE)]:
            done.result()
    assert tally.kills >= kills
    return tally


def test_200_kills_lose_at_most_one_interval_and_the_end_is_the_same(
    tmp_path: Path,
    s3_server: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    forget_settings(monkeypatch)
    tally = kill_over_and_over(tmp_path, s3_server, KILLS)
    record_property("figures", str(tally))
