"""A submit that is killed at any moment is repaired by submitting again: no point twice, none forgotten."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import records
from launcher.cache import Cache
from tests.clusters import Cluster
from tests.trials import Site, must_have_ended_well

pytestmark = [pytest.mark.services, pytest.mark.slow]

KILLS = int(os.environ.get("LAUNCHER_SUBMIT_KILLS", "20"))
SEED = int(os.environ.get("LAUNCHER_SEED", "1"))
POINTS = 50


@pytest.fixture(scope="module")
def site(cluster: Cluster, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Site:
    place = cluster.shared / f"store-kills-{os.getpid()}"
    return Site(cluster=cluster, home=tmp_path_factory.mktemp("kills"), cache=shared_cache.root, place=str(place))


@pytest.fixture
def held(cluster: Cluster) -> Iterator[None]:
    """Let the cluster take jobs and run none."""
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    yield
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    cluster.slurm("scancel", "-u", "root", check=False)


def queued(site: Site, sweep: str) -> Counter[int]:
    """Return how often each point of a sweep is in Slurm's queue: by the names of jobs, and what their orders say."""
    folder = site.cluster.shared / "launcher" / "sweeps" / sweep
    orders = {f"launcher-{path.stem}": path for path in folder.glob("*.json") if not path.name.startswith("plan")}
    found: Counter[int] = Counter()
    for line in site.cluster.slurm("squeue", "-h", "-r", "-O", "Name:64,ArrayTaskID:12").splitlines():
        name, index = line.split()
        if name in orders:
            groups = json.loads(orders[name].read_bytes())["groups"]
            found.update(groups[int(index) if index.isdigit() else 0])
    return found


def test_a_submit_that_is_killed_is_repaired_by_the_next(site: Site, held: None) -> None:
    chance = random.Random(SEED)
    long_s = undisturbed(site)
    after: Counter[int] = Counter()
    sweep, starts = "", [0]
    for kill in range(KILLS):
        starts = [POINTS * (kill + 1) + at for at in range(POINTS)]
        spec = site.experiment(f"kill-{kill}", starts, steps=1, pause=0)
        process = site.start("submit", str(spec), "--on", "cluster")
        time.sleep(chance.uniform(0.2, 1.1) * long_s)
        process.kill()
        process.communicate()
        sweep = site.submit(spec)
        found = queued(site, sweep)
        told = f"LAUNCHER_SEED={SEED}, kill {kill}: {sorted(found.items())}\n{site.told(sweep)}"
        assert found == Counter(range(POINTS)), told
        after[len(list((site.cluster.shared / "launcher" / "sweeps" / sweep).glob("*/")))] += 1
        if kill < KILLS - 1:
            site.cluster.slurm("scancel", "-u", "root")
    site.cluster.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    site.wait(sweep)
    must_have_ended_well(site, sweep, starts, steps=1)
    assert {len(records.load(site.store, run).attempts) for run in site.plan(sweep).runs} == {1}


def undisturbed(site: Site) -> float:
    """Return how long a submit takes when the image is there already, in seconds."""
    for name in ("first", "second"):
        base = 10**6 if name == "first" else 2 * 10**6
        spec = site.experiment(name, [base + at for at in range(POINTS)], steps=1, pause=0)
        began = time.monotonic()
        site.submit(spec)
        took = time.monotonic() - began
    site.cluster.slurm("scancel", "-u", "root")
    return took


def test_the_counter_counts_double(site: Site, held: None) -> None:
    """A judge that finds nothing should be known to find something."""
    spec = site.experiment("double", [3 * 10**6, 3 * 10**6 + 1], steps=1, pause=0)
    sweep = site.submit(spec)
    folder = Path(site.cluster.shared / "launcher" / "sweeps" / sweep)
    [order] = [path for path in folder.glob("*.json") if not path.name.startswith("plan")]
    words = ["sbatch", "-J", f"launcher-{order.stem}", "--array=0-0", "-o", "/dev/null", "--wrap", "true"]
    site.cluster.slurm(*words)
    assert queued(site, sweep) == Counter({0: 2, 1: 1})
